"""The post: letters of the exchange are dealt with as entries of the stream are, once, whatever happens between."""

import pytest

from tests.builders import a_spec
from tests.scheduler.conftest import N1, Office, exited
from tests.scheduler.test_leader import Stage, stage
from tests.support import wait_until
from windlass import metrics
from windlass.core.ids import AttemptId, NodeId
from windlass.core.states import TaskState
from windlass.scheduler import ingest, post
from windlass.scheduler.post import Post
from windlass.store import inbox
from windlass.stream import wire
from windlass.stream.consume import DELIVERIES

__all__ = ["stage"]


async def put(office: Office | Stage, *reports: wire.Report) -> None:
    await inbox.put(office.ledger.conn, wire.encode(reports))


async def letters(office: Office | Stage) -> int:
    return await office.ledger.one("SELECT count(*) FROM inbox")


async def test_letters_go_once_they_are_dealt_with(office: Office) -> None:
    await put(office, wire.Beat(N1))
    await put(office, wire.Beat(N1, (AttemptId("att_1"),)))
    mail = Post(office.desk)
    first = await mail.fetch(office.watch, 0.01)
    assert first.letters == [wire.Beat(N1), wire.Beat(N1, (AttemptId("att_1"),))]
    assert await letters(office) == 2, "the leader may die now"
    await mail.done()
    assert await letters(office) == 0


async def test_a_node_that_comes_by_exchange_alone_gets_and_ends_its_work(stage: Stage) -> None:
    """The stream serves the leader, and this node does not hear it."""
    await put(stage, wire.Hello(N1, "n1", 4000, 2**30, ("process",), "test"))
    [job] = await stage.ledger.submit()

    async def placed() -> AttemptId | None:
        await put(stage, wire.Beat(N1))
        attempt = (await stage.ledger.task(job)).attempt
        return attempt.id if attempt else None

    attempt = await wait_until(placed, "it is placed")
    assert attempt is not None
    await put(stage, wire.Beat(N1, (attempt,), (attempt,)), exited(attempt))

    async def over() -> bool:
        return (await stage.ledger.task(job)).task.state is TaskState.SUCCEEDED

    await wait_until(over, "its end is recorded")


async def test_a_letter_or_an_entry_that_kills_the_leader_is_parked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leads dies of it, again and again; then it is put aside, and the cluster goes on."""
    real = ingest.facts

    def deadly(desk, reports):
        if any(report.attempt_id.startswith("att_poison") for report in reports):
            raise RuntimeError("poison")
        return real(desk, reports)

    monkeypatch.setattr(ingest, "facts", deadly)
    monkeypatch.setattr(post, "CALM_S", 0.05)
    repairs = metrics.REPAIRS.labels(kind=metrics.POISON_ENTRY)._value
    before = repairs.get()

    def parked() -> float:
        return repairs.get() - before

    await stage.producer.report([wire.Prepared(N1, AttemptId("att_poison_streamed"))])
    await put(stage, wire.Beat(N1), wire.Prepared(N1, AttemptId("att_poison_written")))
    for _ in range(4 * DELIVERIES):
        await wait_until(lambda: parked() == 2 or stage.reigns[-1].done(), "another death, or the last of them")
        if not stage.reigns[-1].done():
            break
        await stage.begin()
    assert parked() == 2
    await stage.hello()
    made = await stage.ledger.submit(*[a_spec()] * 3)
    await stage.work(until=made)
    assert await letters(stage) == 0


async def test_large_letters_are_taken_a_few_at_a_time(office: Office) -> None:
    """All at once they would keep the leader so long that it loses its lease, and so the next one."""
    for number in range(5):
        await put(office, wire.Beat(NodeId(f"node_{number}"), (AttemptId("x" * 1000),)))
    sizes: list[int] = []
    while found := await inbox.take(office.desk.conn, term=office.desk.term, suspect=3, size=2000):
        sizes.append(len(found))
        await inbox.clear(office.desk.conn, [letter.id for letter in found], term=office.desk.term)
    assert sizes == [2, 2, 1]


async def test_silence_counts_only_while_the_leader_hears_everything(office: Office) -> None:
    mail, reader = Post(office.desk), office.desk.reader
    await mail.fetch(office.watch, 0.01)
    await mail.fetch(office.watch, 0.01)
    began = office.watch.hearing_since
    await mail.fetch(office.watch, 0.01)
    assert office.watch.hearing_since == began
    for _ in range(600):
        await office.desk.producer.report([wire.Bell("x")])
    assert len((await mail.fetch(office.watch, 0.01)).streamed) == 500
    assert office.watch.hearing_since > began, "more waits: who seems silent may have spoken"
    behind = office.watch.hearing_since
    await mail.fetch(office.watch, 0.01)
    assert (reader.drained, office.watch.hearing_since) == (True, behind)
