"""Dispatch, and the outbox behind it: placed in rank order, sent once, and again when it was lost."""

from contextlib import AsyncExitStack

import pytest

from tests.builders import a_spec, placed
from tests.scheduler.conftest import N1, N2, Office, exited, open_office
from windlass.core.events import CancelRequested, Exited
from windlass.core.states import Cause, TaskState
from windlass.errors import Fenced
from windlass.scheduler import dispatch, ship
from windlass.store import leases, outbox
from windlass.stream import wire


async def test_a_job_is_placed_and_its_node_told(office: Office) -> None:
    await office.node()
    [job] = await office.ledger.submit(a_spec(job_deadline=100))
    assert await dispatch.run_once(office.desk) == 1
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert (live.task.state, live.attempt.node_id, live.attempt.fence) == (TaskState.ACTIVE, N1, office.desk.term)
    [launch] = await office.orders()
    assert isinstance(launch, wire.Launch)
    assert (launch.attempt_id, launch.job_id, launch.spec) == (live.attempt.id, job, live.task.spec)
    assert launch.deadline_in == pytest.approx(100, abs=2)
    await office.desk.clear_sent()
    assert await outbox.unsent(office.ledger.conn, 0) == [], "what was shipped is cleared"


async def test_no_more_than_there_is_room_for(office: Office) -> None:
    await office.node(cpu=3)
    made = await office.ledger.submit(*[a_spec()] * 4, a_spec(priority=9))
    assert await dispatch.run_once(office.desk) == 3
    assert await dispatch.run_once(office.desk) == 0
    states = [(await office.ledger.task(job)).task.state for job in made]
    assert states == [TaskState.ACTIVE] * 2 + [TaskState.QUEUED] * 2 + [TaskState.ACTIVE]
    await office.report(exited(await office.attempt(made[0])))
    assert await dispatch.run_once(office.desk) == 1, "the room of what ended is given on"


async def test_nothing_is_placed_without_a_node(office: Office) -> None:
    await office.ledger.submit()
    assert await dispatch.run_once(office.desk) == 0
    await office.node()
    office.desk.line.clear()
    assert await dispatch.run_once(office.desk) == 1


async def test_a_shape_never_seen_before_is_placed(office: Office) -> None:
    await office.node(cpu=8)
    for cpu in (0.25, 0.5, 2.0):
        [job] = await office.ledger.submit(a_spec(cpu=cpu))
        office.desk.line.arrived((), 0)
        assert await dispatch.run_once(office.desk) == 1
        assert (await office.ledger.task(job)).task.state is TaskState.ACTIVE


async def test_a_small_newcomer_does_not_wait_behind_a_deep_line(office: Office) -> None:
    """More of one shape wait than were read; what arrives is of another that fits at once."""
    await office.node(cpu=1)
    await office.ledger.submit(*[a_spec(cpu=0.75)] * 100)
    assert await dispatch.run_once(office.desk) == 1
    [small] = await office.ledger.submit(a_spec(cpu=0.25))
    number = (await office.ledger.task(small)).task.shape
    office.desk.line.arrived((number,), 0)
    assert await dispatch.run_once(office.desk) == 1
    assert (await office.ledger.task(small)).task.state is TaskState.ACTIVE


async def test_what_was_cancelled_meanwhile_is_not_placed(office: Office) -> None:
    """The line was read ahead; the row moved since."""
    await office.node(cpu=1)
    first, second, third = await office.ledger.submit(*[a_spec()] * 3)
    assert await dispatch.run_once(office.desk) == 1
    await office.ledger.move(second, CancelRequested())
    await office.report(exited(await office.attempt(first)))
    placed_now = await dispatch.run_once(office.desk)
    placed_now += await dispatch.run_once(office.desk)
    assert placed_now == 1
    assert (await office.ledger.task(second)).task.state is TaskState.CANCELLED
    assert (await office.ledger.task(third)).task.state is TaskState.ACTIVE


async def test_a_deep_line_is_worked_off_in_order(office: Office) -> None:
    await office.node(cpu=4)
    made = await office.ledger.submit(*[a_spec()] * 300)
    order: list[str] = []
    while await dispatch.run_once(office.desk):
        batch = list(office.desk.picture.live.values())
        order += sorted((one.task.job_id for one in batch), key=made.index)
        await office.report(*(exited(one.attempt.id) for one in batch if one.attempt))
    assert order == made


async def test_a_former_leader_places_nothing(office: Office) -> None:
    await office.node()
    [job] = await office.ledger.submit()
    await leases.expire(office.ledger.conn, office.desk.term)
    await office.ledger.lead("rival")
    with pytest.raises(Fenced):
        await dispatch.run_once(office.desk)
    assert (await office.ledger.task(job)).task.state is TaskState.QUEUED
    assert await office.orders() == []


async def test_orders_nobody_sent_are_sent(office: Office) -> None:
    """The leader died between its commit and the send; the API committed a stop and could not ring."""
    await office.node()
    await office.node(N2)
    one, other, over = await office.ledger.submit(*[a_spec()] * 3)
    node = office.desk.picture.nodes
    for job, where in ((one, N1), (other, N2), (over, N1)):
        await office.ledger.place(job, node[where], term=office.desk.term)
    await office.ledger.move(other, CancelRequested())
    await office.ledger.move(over, Exited(0.0, None, 0))
    assert await ship.run_once(office.desk, 60.0) == 0, "young rows are on their way already"
    assert await ship.run_once(office.desk, 0.0) == 4
    [launch] = await office.orders()
    assert isinstance(launch, wire.Launch)
    assert launch.attempt_id == await office.attempt(one), "what ended meanwhile is not launched"
    stop = wire.Stop(await office.attempt(other), office.desk.term, Cause.CANCELLED, "cancelled by request")
    assert await office.orders(N2) == [stop]
    await office.desk.clear_sent()
    assert await ship.run_once(office.desk, 0.0) == 0


async def test_a_send_that_failed_is_made_up_for(office: Office, database_url: str) -> None:
    """With the stream server away the commit stands, the rows stay, and the sweep sends them."""
    await office.node()
    [job] = await office.ledger.submit()
    async with AsyncExitStack() as stack:
        deaf = await open_office(stack, database_url, "unix:///nowhere/valkey.sock")
        assert await dispatch.run_once(deaf.desk) == 1
        await deaf.desk.flush()
        await deaf.desk.clear_sent()
    assert len(await outbox.unsent(office.ledger.conn, 0)) == 1
    async with AsyncExitStack() as stack:
        heir = await open_office(stack, database_url, office.redis_url)
        assert await ship.run_once(heir.desk, 0.0) == 1
        [launch] = await heir.orders()
        assert isinstance(launch, wire.Launch)
        assert launch.job_id == job
    await office.reload()


async def test_a_step_that_lost_is_handed_back(office: Office) -> None:
    await office.node()
    one, other = await office.ledger.submit(a_spec(), a_spec())
    stale, fine = [await office.ledger.task(job) for job in (one, other)]
    await office.ledger.move(one, CancelRequested())
    steps = [placed(live.task, office.desk.picture.nodes[N1], fence=office.desk.term) for live in (stale, fine)]
    left = await office.desk.write(steps, {s.task.id: stale.spec_text for s in steps})
    assert left == [steps[0]]
