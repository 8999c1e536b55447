"""Jobs: accepted once, listed in order, deleted whole."""

import asyncio

import msgspec
import pytest

from tests.builders import Ledger, a_job, a_spec, placed
from tests.store.conftest import Connect
from windlass.core.events import CancelRequested, Exited, NodeLost
from windlass.core.ids import AttemptId, JobId
from windlass.core.spec import JobSpec
from windlass.core.states import Cause, JobState
from windlass.store import events, jobs, logs
from windlass.store.jobs import Filter
from windlass.store.shapes import Shapes


async def test_one_key_is_one_job_whoever_comes_first(ledger: Ledger, another: Connect) -> None:
    """Fifty at once over five connections: one job, and everyone can find it."""
    conns = [await another() for _ in range(5)]

    async def submits(conn) -> list[JobId]:
        accepted: list[JobId] = []
        for _ in range(10):
            job = a_job(key="same", fingerprint="f")
            accepted += (await jobs.submit(conn, [job], Shapes()))[0]
        return accepted

    accepted = [job for found in await asyncio.gather(*map(submits, conns)) for job in found]
    assert len(accepted) == 1
    assert await ledger.one("SELECT count(*) FROM jobs") == 1
    assert await ledger.one("SELECT count(*) FROM tasks") == 1
    assert await ledger.one("SELECT count(*) FROM events") == 1
    assert (await jobs.holders(ledger.conn, ["same", "other"])).keys() == {"same"}
    assert (await jobs.holders(ledger.conn, ["same"]))["same"] == jobs.KeyHolder(accepted[0], "f")


async def test_one_key_twice_in_one_batch_is_one_job(ledger: Ledger) -> None:
    twins = [a_job(key="k", fingerprint="f"), a_job(key="k", fingerprint="f"), a_job()]
    accepted, _ = await jobs.submit(ledger.conn, twins, Shapes())
    assert len(accepted) == 2
    assert twins[2].id in accepted


async def test_a_batch_waits_in_the_order_it_was_given(ledger: Ledger) -> None:
    made = await ledger.submit(*[a_spec()] * 50)
    views = [await jobs.get(ledger.conn, job) for job in made]
    seqs = [view.seq for view in views if view]
    assert seqs == sorted(seqs)
    assert await jobs.ahead(ledger.conn, views[10]) == 10  # pyright: ignore


async def test_what_ranks_before(ledger: Ledger) -> None:
    *_, mine = await ledger.submit(a_spec(priority=-1), a_spec(priority=1, cpu=2), a_spec())
    view = await jobs.get(ledger.conn, mine)
    assert view is not None
    assert await jobs.ahead(ledger.conn, view) == 1


async def test_a_shape_is_one_number_for_all(ledger: Ledger, another: Connect) -> None:
    conns = [await another() for _ in range(4)]
    specs = [a_spec(cpu=n / 4) for n in range(1, 9)]
    await asyncio.gather(*(jobs.submit(conn, [a_job(s) for s in specs], Shapes()) for conn in conns))
    assert await ledger.one("SELECT count(*) FROM shapes") == 8
    assert await ledger.one("SELECT count(DISTINCT shape) FROM tasks") == 8


async def test_the_spec_is_read_back_as_it_was(ledger: Ledger) -> None:
    spec = a_spec(name="ü '\"", env={"A": "b\n☃"}, labels={"k": "v"}, job_deadline=1.5)
    [job] = await ledger.submit(spec)
    view = await jobs.get(ledger.conn, job)
    assert view is not None
    assert msgspec.json.decode(view.spec_text, type=JobSpec) == spec
    assert (view.name, view.labels, view.state) == (spec.name, spec.labels, "queued")
    assert (await ledger.task(job)).task.spec == spec


@pytest.fixture
async def mixed(ledger: Ledger) -> dict[str, JobId]:
    """One job of each kind the list can tell apart."""
    names = ["queued", "running", "succeeded", "cancelled", "failed", "labelled", "other queue"]
    made = await ledger.submit(
        *(a_spec(name=name) for name in names[:4]),
        a_spec(name="failed", max_retries=0),
        a_spec(name="labelled", labels={"team": "data", "tier": "1"}),
        a_spec(name="other queue", queue="gpu"),
    )
    by_name = dict(zip(names, made, strict=True))
    for name in ("running", "succeeded", "failed"):
        await ledger.place(by_name[name])
    await ledger.move(by_name["succeeded"], Exited(1e9, None, 0))
    await ledger.move(by_name["failed"], Exited(1e9, Cause.EXIT_CODE, 1))
    await ledger.move(by_name["cancelled"], CancelRequested())
    return by_name


async def test_lists_by_every_filter(ledger: Ledger, mixed: dict[str, JobId]) -> None:
    async def found(**narrowed) -> set[str | None]:
        return {view.name for view in await jobs.page(ledger.conn, Filter(**narrowed), 100, None)}

    assert await found() == set(mixed)
    assert await found(state=JobState.QUEUED) == {"queued", "labelled", "other queue"}
    for state in ("running", "succeeded", "failed", "cancelled"):
        assert await found(state=JobState(state)) == {state}
    assert await found(state=JobState.HELD) == set()
    assert await found(labels={"team": "data"}) == {"labelled"}
    assert await found(labels={"team": "data", "tier": "2"}) == set()
    assert await found(queue="gpu") == {"other queue"}
    assert await found(queue="default") == set(mixed) - {"other queue"}
    assert await found(name="running") == {"running"}
    assert await found(name="running", state=JobState.FAILED) == set()


async def test_pages_meet_every_job_once_newest_first(ledger: Ledger) -> None:
    made = await ledger.submit(*[a_spec()] * 25)
    seen: list[JobId] = []
    cursor = None
    while page := await jobs.page(ledger.conn, Filter(), 10, cursor):
        seen += [view.id for view in page]
        cursor = seen[-1]
    assert seen == sorted(made, reverse=True)


async def test_only_what_is_over_is_deleted_and_nothing_of_it_stays(ledger: Ledger, mixed: dict[str, JobId]) -> None:
    attempt = (await ledger.task(mixed["succeeded"])).attempt
    assert attempt is not None
    await logs.append(ledger.conn, [logs.LogChunk(attempt.id, "stdout", 0, b"hi")])
    gone = await jobs.delete(ledger.conn, [*mixed.values()])
    assert gone == {mixed[name] for name in ("succeeded", "failed", "cancelled")}
    assert await jobs.delete(ledger.conn, [*gone]) == frozenset()
    assert await ledger.one("SELECT count(*) FROM jobs") == len(mixed) - 3
    assert await ledger.one("SELECT count(*) FROM tasks") == len(mixed) - 3
    assert await ledger.one("SELECT count(*) FROM attempts") == 1, "the running one's"
    assert await ledger.one("SELECT count(*) FROM log_chunks") == 0
    for job in gone:
        assert [e.type for e in await events.of_job(ledger.conn, job)] == ["job.deleted"]
        assert await jobs.over(ledger.conn, job)
    assert not await jobs.over(ledger.conn, mixed["running"])


async def test_jobs_expire_by_their_own_wish(ledger: Ledger) -> None:
    soon, later, never = await ledger.submit(a_spec(ttl_after_finished=0), a_spec(ttl_after_finished=3600), a_spec())
    assert await jobs.expired(ledger.conn) == []
    for job in (soon, later, never):
        await ledger.move(job, CancelRequested())
    assert await jobs.expired(ledger.conn) == [soon]


async def test_attempts_are_told_in_order(ledger: Ledger) -> None:
    [job] = await ledger.submit()
    for _ in range(3):
        await ledger.place(job)
        await ledger.move(job, NodeLost())
    task = (await ledger.task(job)).task
    views = (await jobs.attempts(ledger.conn, [task.id]))[task.id]
    assert [(v.number, v.state, v.cause) for v in views] == [(n, "lost", "node_lost") for n in (1, 2, 3)]
    assert await jobs.attempt_over(ledger.conn, AttemptId(views[0].id))
    assert await jobs.attempt_over(ledger.conn, AttemptId("att_gone"))
    start = placed(task)
    await ledger.write(start)
    assert start.attempt is not None
    assert not await jobs.attempt_over(ledger.conn, start.attempt.id)
