"""Ingest: one recorded outcome per attempt, whatever comes late, doubled, out of order or from elsewhere."""

import itertools

import pytest
import structlog

from tests.builders import a_spec
from tests.scheduler.conftest import N1, N2, Office, exited
from tests.support import wait_until
from windlass.core.events import CancelRequested, RetryRequested
from windlass.core.ids import AttemptId, JobId
from windlass.core.spec import Backoff
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.scheduler import dispatch, expire, prune
from windlass.store import events, jobs
from windlass.stream import wire


async def told(office: Office, job: JobId) -> list[str]:
    return [event.type for event in await events.of_job(office.ledger.conn, job)]


async def running(office: Office, **spec) -> tuple[JobId, AttemptId]:
    if N1 not in office.desk.picture.nodes:
        await office.node()
    [job] = await office.ledger.submit(a_spec(**spec))
    attempt = await office.place(job)
    await office.orders()
    return job, attempt


async def test_a_whole_life_in_one_batch(office: Office) -> None:
    job, attempt = await running(office)
    reports = [wire.Prepared(N1, attempt), wire.Started(N1, attempt, 0.5), exited(attempt)]
    assert await office.report(*reports) == 1
    live = await office.ledger.task(job)
    assert live.task.state is TaskState.SUCCEEDED
    assert live.task.version == 2, "one write for all three"
    assert await told(office, job) == ["job.submitted", "job.placed", "job.started", "job.succeeded"]
    assert await office.orders() == [wire.Forget((attempt,))]


async def test_doubled_and_late_reports_change_nothing(office: Office) -> None:
    job, attempt = await running(office)
    first = exited(attempt, cause=Cause.EXIT_CODE, code=3)
    await office.report(wire.Started(N1, attempt), wire.Started(N1, attempt))
    await office.report(first, first)
    before, facts = await office.ledger.task(job), await told(office, job)
    assert before.task.retries == 1
    assert facts.count("job.started") == facts.count("job.backoff") == 1
    await office.orders()
    for late in (first, exited(attempt), wire.Started(N1, attempt), wire.Prepared(N1, attempt)):
        assert await office.report(late) == 0
        assert await office.ledger.task(job) == before
    assert await told(office, job) == facts
    orders = await office.orders()
    assert {type(order) for order in orders} == {wire.Forget}, "the node may let go of what is known"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_reports_in_any_order_end_the_same(office: Office, order: tuple[int, ...]) -> None:
    job, attempt = await running(office)
    reports = [wire.Prepared(N1, attempt), wire.Started(N1, attempt, 0.1), exited(attempt)]
    for number in order:
        await office.report(reports[number])
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert (live.task.state, live.attempt.state) == (TaskState.SUCCEEDED, AttemptState.SUCCEEDED)
    assert live.attempt.started_at is not None
    assert (await told(office, job)).count("job.succeeded") == 1


async def test_a_report_from_the_wrong_node_is_not_believed(office: Office) -> None:
    job, attempt = await running(office)
    await office.node(N2)
    assert await office.report(exited(attempt, N2)) == 0
    assert (await office.ledger.task(job)).task.state is TaskState.ACTIVE
    assert await office.orders(N2) == []


async def test_many_reports_from_the_wrong_node_are_one_line_of_log(office: Office) -> None:
    _, attempt = await running(office)
    with structlog.testing.capture_logs() as logs:
        await office.report(*[exited(attempt, N2)] * 100)
        await office.orders()
    assert [entry["event"] for entry in logs if entry["log_level"] != "debug"] in ([], ["stream_repaired"])


async def test_a_report_of_nothing_known_is_answered(office: Office) -> None:
    await office.node()
    ghost = AttemptId("att_ghost")
    assert await office.report(wire.Started(N1, ghost), exited(ghost)) == 0
    assert await office.orders() == [wire.Forget((ghost,))]


async def test_the_end_of_an_earlier_attempt_does_not_end_the_next(office: Office) -> None:
    """Both in one batch: the first attempt was given up with its node, which then came back."""
    job, first = await running(office, cpu=4)
    await office.node(N2)
    await office.watch._lose(office.desk, office.desk.picture.nodes[N1], 99.0)  # pyright: ignore
    second = await office.place(job)
    assert second != first
    moved = await office.report(wire.Started(N2, second), exited(first), wire.Started(N1, first))
    assert moved == 1
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert (live.attempt.id, live.attempt.state) == (second, AttemptState.RUNNING)
    assert "job.succeeded" not in await told(office, job)


async def test_what_the_api_moved_meanwhile_is_read_again(office: Office) -> None:
    """The picture is behind by a cancel; the exit still counts, once."""
    job, attempt = await running(office)
    await office.report(wire.Started(N1, attempt))
    await office.ledger.move(job, CancelRequested())
    assert await office.report(exited(attempt, cause=Cause.CANCELLED, code=143)) == 1
    live = await office.ledger.task(job)
    assert live.task.state is TaskState.CANCELLED
    assert await jobs.over(office.ledger.conn, job)


async def test_a_refusal_frees_the_place_and_tries_again(office: Office) -> None:
    job, attempt = await running(office)
    await office.report(wire.Refused(N1, attempt, "disk full"))
    live = await office.ledger.task(job)
    assert live.task.state is TaskState.BACKOFF
    assert "disk full" in (live.task.reason or "")
    await office.ledger.move(job, RetryRequested())
    assert await office.place(job) != attempt


async def test_retries_wait_for_their_delay_and_end(office: Office) -> None:
    job, attempt = await running(office, max_retries=1, backoff=Backoff(initial=0.01, jitter=0))
    await office.report(exited(attempt, cause=Cause.EXIT_CODE, code=1))
    assert (await office.ledger.task(job)).task.state is TaskState.BACKOFF
    await wait_until(lambda: expire.run_once(office.desk), "the end of the backoff")
    second = await office.place(job)
    await office.report(exited(second, cause=Cause.EXIT_CODE, code=1))
    task = (await office.ledger.task(job)).task
    assert (task.state, task.attempts) == (TaskState.FAILED, 2)


async def test_a_limit_the_worker_did_not_keep(office: Office) -> None:
    job, attempt = await running(office, attempt_timeout=0.001)
    await office.report(wire.Started(N1, attempt, 60.0))
    assert await expire.run_once(office.desk) == 1
    [stop] = await office.orders()
    assert stop == wire.Stop(attempt, office.desk.term, Cause.TIMEOUT, "a time limit passed")
    assert await expire.run_once(office.desk) == 0
    ahead = office.desk.picture.next_due - office.desk.picture.now()
    assert 13 < ahead <= 15, "again when grace and margin are over"
    await office.report(exited(attempt, cause=Cause.TIMEOUT, code=137))
    assert (await office.ledger.task(job)).task.state is TaskState.BACKOFF


async def test_a_row_that_is_not_due_does_not_spin(office: Office) -> None:
    [job] = await office.ledger.submit()
    await office.ledger.one("UPDATE tasks SET wake_at = now() - interval '1 hour' RETURNING 1")
    assert await expire.run_once(office.desk) == 0
    assert office.desk.picture.next_due > office.desk.picture.now() + 0.01
    assert (await office.ledger.task(job)).task.state is TaskState.QUEUED


async def test_jobs_leave_when_they_wished_to(office: Office) -> None:
    job, attempt = await running(office, ttl_after_finished=0)
    keep, _ = await running(office)
    assert await prune.run_once(office.desk) == 0
    await office.report(exited(attempt))
    assert await prune.run_once(office.desk) == 1
    assert await jobs.get(office.ledger.conn, job) is None
    assert await jobs.get(office.ledger.conn, keep) is not None


async def test_hundreds_of_ends_are_one_write(office: Office) -> None:
    await office.node(cpu=300)
    await office.ledger.submit(*[a_spec()] * 200)
    while await dispatch.run_once(office.desk):
        pass
    attempts = list(office.desk.picture.live)
    assert len(attempts) == 200
    assert await office.report(*map(exited, attempts)) == 200
    versions = await office.ledger.one("SELECT array_agg(DISTINCT version) FROM tasks WHERE state = 'succeeded'")
    assert versions == [2]
    writes = await office.ledger.one("SELECT count(DISTINCT txid) FROM events WHERE type = 'job.succeeded'")
    assert writes == 1
