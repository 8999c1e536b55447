"""Drain: what operators want of nodes, and what nodes want of themselves, is taken up."""

import pytest

from tests.builders import a_spec
from tests.scheduler.conftest import N1, N2, Office, exited
from tests.scheduler.test_watch import hasty, no_grace, running, settled, states  # noqa: F401 - fixtures among them
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.scheduler import dispatch, drain
from windlass.store import nodes
from windlass.stream import wire


async def placeable(office: Office) -> int:
    """How many of one new job are placed now."""
    await office.ledger.submit(a_spec(cpu=0.1))
    office.desk.line.clear()
    return await dispatch.run_once(office.desk)


async def test_nothing_is_placed_on_a_cordoned_node(office: Office) -> None:
    await office.node()
    job, attempt = await running(office)
    await nodes.cordon(office.ledger.conn, N1)
    await drain.run_once(office.desk)
    assert await placeable(office) == 0
    await office.node()
    assert await placeable(office) == 0, "saying hello ends no cordon"
    assert (await office.ledger.task(job)).task.state is TaskState.ACTIVE
    await nodes.uncordon(office.ledger.conn, N1)
    await drain.run_once(office.desk)
    office.desk.line.clear()
    assert await dispatch.run_once(office.desk) == 2
    await office.report(exited(attempt))


async def test_a_drain_stops_the_rest_at_its_deadline_free_of_charge(office: Office) -> None:
    await office.node(N1)
    job, attempt = await running(office)
    await nodes.drain(office.ledger.conn, N1, 3600)
    assert await drain.run_once(office.desk) == 0, "not before its time"
    await office.orders()
    await nodes.drain(office.ledger.conn, N1, 0)
    assert await drain.run_once(office.desk) == 1
    assert await drain.run_once(office.desk) == 0
    [stop] = await office.orders()
    assert isinstance(stop, wire.Stop)
    assert stop.cause is Cause.CANCELLED, "a word that workers of version 0.1 know"
    await office.node(N2)
    await office.report(exited(attempt, cause=Cause.CANCELLED, code=143))
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert (live.task.state, live.attempt.state, live.attempt.cause) == (
        TaskState.QUEUED,
        AttemptState.CANCELLED,
        Cause.DRAINED,
    )
    assert (live.task.retries, live.task.infra_losses, live.task.refusals) == (0, 0, 0)
    await office.place(job)
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert live.attempt.node_id == N2


async def test_a_drain_outlives_its_leader(office: Office) -> None:
    await office.node()
    await nodes.drain(office.ledger.conn, N1, None)
    await office.reload()
    assert await placeable(office) == 0
    [row] = await nodes.every(office.ledger.conn)
    assert (row.node.draining, row.node.cordoned, row.drain_until) == (True, True, None)


async def test_a_leaving_worker_is_told_that_nothing_more_comes(office: Office) -> None:
    await office.node()
    hello = wire.Hello(N1, N1, 4000, 2**33, ("process",), "test", draining=True)
    await office.watch.hear(office.desk, [hello])
    assert await office.orders() == [wire.Heard(draining=True)]
    assert await placeable(office) == 0
    await office.watch.hear(office.desk, [wire.Bye(N1)])
    assert await states(office) == {N1: "lost"}
    await office.node()
    assert await states(office) == {N1: "ready"}
    assert await placeable(office) == 2, "a worker that came back is done with leaving"
    await office.watch.hear(office.desk, [wire.Bye(N1)])
    assert await states(office) == {N1: "ready"}, "a word that comes twice, after a return, is stale"


async def test_what_a_worker_sends_back_as_it_leaves_goes_elsewhere_at_once(office: Office) -> None:
    await office.node()
    [job] = await office.ledger.submit()
    attempt = await office.place(job)
    await office.report(wire.Exited(N1, attempt, 0.0, Cause.DRAINED, None, "it never started"))
    task = (await office.ledger.task(job)).task
    assert (task.state, task.retries, task.infra_losses, task.refusals) == (TaskState.QUEUED, 0, 0, 0)


async def test_exclusive_work_waits_until_its_node_is_declared_gone(hasty: Office) -> None:  # noqa: F811
    await hasty.node(N1)
    job, attempt = await running(hasty, exclusive=True)
    assert not await nodes.forget(hasty.ledger.conn, N1), "a node that lives is not forgotten"
    await hasty.node(N2)
    await settled(hasty, alive=(N2,), one="lost")
    await drain.run_once(hasty.desk)
    assert (await hasty.ledger.task(job)).task.state is TaskState.ACTIVE
    assert await nodes.forget(hasty.ledger.conn, N1)
    await hasty.reload()  # whoever leads by then
    await drain.run_once(hasty.desk)
    live = await hasty.ledger.task(job)
    assert live.attempt is not None
    assert (live.task.state, live.attempt.state) == (TaskState.QUEUED, AttemptState.LOST)
    assert live.attempt.message == "the node was declared gone"
    assert await hasty.place(job) != attempt
    assert await states(hasty) == {N2: "ready"}


async def test_exclusive_work_goes_on_when_its_node_comes_back(hasty: Office) -> None:  # noqa: F811
    await hasty.node(N1)
    job, attempt = await running(hasty, exclusive=True)
    await settled(hasty, one="lost")
    await hasty.beat(N1, attempt)
    await hasty.node(N1)
    await hasty.beat(N1, attempt)
    live = await hasty.ledger.task(job)
    assert live.attempt is not None
    assert (live.attempt.id, live.attempt.state, live.task.infra_losses) == (attempt, AttemptState.RUNNING, 0)
    assert not [order for order in await hasty.orders() if isinstance(order, wire.Forget | wire.Stop)]
    assert await hasty.report(exited(attempt)) == 1


@pytest.mark.usefixtures("no_grace")
async def test_a_node_that_comes_back_ends_what_was_superseded_and_keeps_the_rest(hasty: Office) -> None:  # noqa: F811
    await hasty.node(N1)
    job, old = await running(hasty)
    _, kept = await running(hasty, exclusive=True)
    await hasty.node(N2)
    await settled(hasty, alive=(N2,), one="lost")
    await hasty.place(job)
    await hasty.orders()
    for _ in range(2):
        await hasty.beat(N1, old, kept)
    told = await hasty.orders()
    assert [order.attempt_ids for order in told if isinstance(order, wire.Forget)] == [(old,)]
    await hasty.report(wire.Exited(N1, old, 0.0, Cause.CANCELLED, 143, "superseded"))
    row = await hasty.ledger.one("SELECT late FROM attempts WHERE id = %s", old)
    assert row.startswith("cancelled exit code 143 (superseded), ")
    assert row.endswith(" s after it was counted lost")
    await hasty.report(wire.Exited(N1, old, 0.0, None, 0, "again"))
    assert await hasty.ledger.one("SELECT late FROM attempts WHERE id = %s", old) == row
    assert await hasty.ledger.one("SELECT count(*) FROM events WHERE type = 'job.late_report'") == 1
    task = (await hasty.ledger.task(job)).task
    assert (task.state, task.infra_losses) == (TaskState.ACTIVE, 1)


async def test_a_new_leader_loses_what_the_former_had_only_begun_to(hasty: Office) -> None:  # noqa: F811
    """The former one wrote down that the node is lost, and died before it gave up what ran there."""
    await hasty.node(N1)
    job, _ = await running(hasty)
    await hasty.ledger.one("UPDATE nodes SET state = 'lost' RETURNING 1")
    await hasty.reload()
    await settled(hasty, one="lost")

    async def given_up() -> bool:
        await hasty.watch.tick(hasty.desk)
        return (await hasty.ledger.task(job)).task.state is TaskState.QUEUED

    from tests.support import wait_until

    await wait_until(given_up, "its work is given up")
