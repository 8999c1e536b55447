"""Watch: nodes come, fall silent and come back; what they hold is held against the ledger."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.builders import a_spec
from tests.scheduler.conftest import N1, N2, Office, exited, open_office
from tests.support import wait_until
from windlass import metrics
from windlass.core.events import CancelRequested
from windlass.core.ids import AttemptId, JobId, NodeId
from windlass.core.states import AttemptState, NodeState, TaskState
from windlass.scheduler import dispatch, inventory
from windlass.scheduler.desk import Rules
from windlass.store import nodes
from windlass.stream import orders, wire

#: Half a second of silence is long here.
HASTY = Rules(node_suspect_s=0.15, node_lost_s=0.4)


@pytest.fixture
async def hasty(database_url: str, redis_url: str) -> AsyncIterator[Office]:
    """A leader that has led for a while, and waits not long."""
    async with AsyncExitStack() as stack:
        made = await open_office(stack, database_url, redis_url, HASTY)
        made.watch.hearing_since -= 60
        yield made
        await made.check()


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a node was sent counts as received at once."""
    monkeypatch.setattr(orders, "GRACE_S", -1.0)
    monkeypatch.setattr(inventory, "ODD_S", -1.0)


async def states(office: Office) -> dict[str, str]:
    rows = await nodes.every(office.ledger.conn)
    assert {row.node.id: row.node.state for row in rows} == {
        n.id: n.state for n in office.desk.picture.nodes.values()
    }, "ledger and picture agree"
    return {row.node.name: row.node.state.value for row in rows}


async def settled(office: Office, *, alive: tuple[NodeId, ...] = (), **wanted: str) -> None:
    """Tick until the nodes are as wanted; those alive beat meanwhile."""

    async def reached() -> bool:
        for node in alive:
            await office.beat(node, *office.desk.picture.by_node[node])
        await office.watch.tick(office.desk)
        found = await states(office)
        return all(found[f"node_{name}"] == state for name, state in wanted.items())

    await wait_until(reached, f"nodes {wanted}")


async def running(office: Office, **spec) -> tuple[JobId, AttemptId]:
    [job] = await office.ledger.submit(a_spec(**spec))
    attempt = await office.place(job)
    await office.report(wire.Started(N1, attempt))
    return job, attempt


async def test_a_node_describes_itself(office: Office) -> None:
    hello = wire.Hello(N1, "n1", 2500, 2**30, ("process", "spaceship"), "9", {"disk": "ssd"}, {"kernel": "x"})
    await office.watch.hear(office.desk, [hello])
    [row] = await nodes.every(office.ledger.conn)
    assert (row.node.name, row.node.capacity.millis, row.version) == ("n1", 2500, "9")
    assert row.node.drivers == {"process"}, "a driver from the future is left out"
    assert (row.labels, row.facts) == ({"disk": "ssd"}, {"kernel": "x"})


async def test_a_stranger_is_asked_who_it_is(office: Office) -> None:
    await office.beat(N1)
    assert await office.orders() == [wire.Introduce()]
    assert await nodes.every(office.ledger.conn) == []


async def test_a_hello_that_was_lost_or_came_late_is_asked_for(office: Office) -> None:
    """Else a node that came back from a drain would get no work for good: its leader still has it leaving."""
    leaving = wire.Hello(N1, "n1", 4000, 2**30, ("process",), "test", draining=True, mark="first")
    back = wire.Hello(N1, "n1", 4000, 2**30, ("process",), "test", mark="second")
    await office.watch.hear(office.desk, [leaving, wire.Beat(N1, hello="first")])
    assert await office.orders() == [wire.Heard(draining=True)]
    await office.watch.hear(office.desk, [wire.Beat(N1, hello="second")])
    assert await office.orders() == [wire.Introduce()], "the second was lost"
    await office.watch.hear(office.desk, [back, wire.Beat(N1, hello="second"), leaving])
    assert office.desk.picture.nodes[N1].leaving
    await office.orders()
    await office.watch.hear(office.desk, [wire.Beat(N1, hello="second")])
    assert await office.orders() == [wire.Introduce()], "the first came again"
    await office.watch.hear(office.desk, [back, wire.Beat(N1, hello="second")])
    assert await office.orders() == []
    assert office.desk.picture.nodes[N1].open


async def test_silence_makes_suspect_then_lost_and_a_beat_ready(hasty: Office) -> None:
    await hasty.node(N1)
    await hasty.node(N2)
    await settled(hasty, alive=(N2,), one="lost", two="ready")
    await hasty.beat(N1)
    assert (await hasty.orders())[-1] == wire.Introduce(), "who was lost introduces itself again"
    await hasty.node(N1)
    assert (await states(hasty))[N1] == "ready"


async def test_a_suspect_gets_no_new_work_and_keeps_what_it_has(hasty: Office) -> None:
    await hasty.node(N1)
    job, attempt = await running(hasty)
    await settled(hasty, one="suspect")
    [waiting] = await hasty.ledger.submit()
    hasty.desk.line.clear()
    assert await dispatch.run_once(hasty.desk) == 0
    assert (await hasty.ledger.task(job)).task.state is TaskState.ACTIVE
    await hasty.beat(N1, attempt)
    assert (await states(hasty))[N1] == "ready"
    hasty.desk.line.clear()
    assert await dispatch.run_once(hasty.desk) == 1
    assert (await hasty.ledger.task(waiting)).task.state is TaskState.ACTIVE


async def test_a_lost_nodes_work_goes_elsewhere(hasty: Office) -> None:
    await hasty.node(N1, cpu=2)
    job, attempt = await running(hasty)
    guarded, kept = await running(hasty, exclusive=True)
    await hasty.node(N2)
    await settled(hasty, alive=(N2,), one="lost")
    task = (await hasty.ledger.task(job)).task
    assert (task.state, task.infra_losses, task.retries) == (TaskState.QUEUED, 1, 0)
    assert await hasty.place(job) != attempt
    live = await hasty.ledger.task(job)
    assert live.attempt is not None
    assert live.attempt.node_id == N2
    alone = await hasty.ledger.task(guarded)
    assert alone.attempt is not None
    assert (alone.attempt.id, alone.attempt.state) == (kept, AttemptState.RUNNING), "never two live copies"
    assert await hasty.report(exited(attempt)) == 0, "what the lost node tells later changes nothing"
    assert await hasty.report(exited(kept)) == 1


async def test_while_the_leader_is_deaf_nobody_is_judged(hasty: Office) -> None:
    await hasty.node(N1)
    heard = hasty.desk.picture.heard[N1]

    async def long_silent() -> bool:
        hasty.watch.deaf()
        await hasty.watch.tick(hasty.desk)
        return hasty.watch.hearing_since - heard > HASTY.node_lost_s * 1.5

    await wait_until(long_silent, "a long silence")
    assert (await states(hasty))[N1] == "ready"
    await settled(hasty, one="lost")
    assert hasty.desk.picture.heard[N1] == heard


async def test_a_new_leader_waits_before_it_judges(hasty: Office, database_url: str) -> None:
    await hasty.node(N1)
    await settled(hasty, one="suspect")
    async with AsyncExitStack() as stack:
        heir = await open_office(stack, database_url, hasty.redis_url, HASTY)
        await heir.watch.tick(heir.desk)
        assert heir.desk.picture.nodes[N1].state is NodeState.SUSPECT
        await settled(heir, one="lost")
    await hasty.reload()


@pytest.mark.usefixtures("no_grace")
async def test_a_launch_that_never_arrived_is_sent_again(office: Office) -> None:
    await office.node()
    [job] = await office.ledger.submit()
    attempt = await office.place(job)
    [first] = await office.orders()
    await office.beat(N1)
    [again] = await office.orders()
    assert first == again, "the same order, so that it may arrive twice"
    await office.beat(N1, attempt)
    assert await office.orders() == [wire.Tell((attempt,))], "it holds it: word of its start may have been lost"


async def test_what_is_on_its_way_is_not_sent_again(office: Office) -> None:
    await office.node()
    [job] = await office.ledger.submit()
    await office.place(job)
    await office.orders()
    await office.beat(N1)
    assert await office.orders() == []


@pytest.mark.usefixtures("no_grace")
async def test_a_stop_that_never_arrived_is_sent_again(office: Office) -> None:
    await office.node()
    job, attempt = await running(office)
    await office.ledger.move(job, CancelRequested())
    office.desk.picture.refresh(await office.ledger.task(job))
    await office.orders()
    await office.beat(N1)
    [stop] = await office.orders()
    assert isinstance(stop, wire.Stop)
    assert stop.attempt_id == attempt


@pytest.mark.usefixtures("no_grace")
async def test_what_a_node_no_longer_knows_is_lost(office: Office) -> None:
    """Only at the second beat: one may be from before its launch, and late (simulated seed 2276)."""
    await office.node()
    job, attempt = await running(office)
    await office.beat(N1, attempt)
    await office.beat(N1)
    assert (await office.ledger.task(job)).task.state is TaskState.ACTIVE
    await office.beat(N1)
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert (live.task.state, live.attempt.state) == (TaskState.QUEUED, AttemptState.LOST)


@pytest.mark.usefixtures("no_grace")
async def test_what_a_node_does_not_know_yet_is_not_lost(office: Office) -> None:
    """It counts from when the node spoke of it: a beat from before may come after that (simulated seed 15974)."""
    await office.node()
    [job] = await office.ledger.submit()
    attempt = await office.place(job)
    await office.beat(N1)
    await office.report(wire.Prepared(N1, attempt))
    await office.beat(N1)
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert live.attempt.state is AttemptState.PREPARING
    await office.beat(N1)
    assert (await office.ledger.task(job)).task.state is TaskState.QUEUED


@pytest.mark.usefixtures("no_grace")
async def test_what_the_ledger_does_not_know_is_forgotten(office: Office) -> None:
    """Only at the second beat: a picture may be behind by a moment."""
    await office.node()
    ghost = AttemptId("att_ghost")
    _, ours = await running(office)
    await office.orders()
    await office.beat(N1, ghost, ours)
    assert await office.orders() == []
    await office.beat(N1, ghost, ours)
    assert await office.orders() == [wire.Forget((ghost,))]


@pytest.mark.usefixtures("no_grace")
async def test_an_end_that_was_never_reported_is_asked_for(office: Office) -> None:
    await office.node()
    _, attempt = await running(office)
    await office.orders()
    before = repairs(metrics.UNREPORTED_END)
    await office.watch.hear(office.desk, [wire.Beat(N1, (attempt,), (attempt,))])
    assert await office.orders() == [], "its report may be on its way"
    await office.watch.hear(office.desk, [wire.Beat(N1, (attempt,), (attempt,))])
    assert await office.orders() == [wire.Tell((attempt,))]
    assert repairs(metrics.UNREPORTED_END) == before + 1
    await office.report(exited(attempt))


def repairs(kind: str) -> float:
    return metrics.REPAIRS.labels(kind=kind)._value.get()


@pytest.mark.usefixtures("no_grace")
async def test_an_older_beat_says_nothing_of_what_is_held(office: Office) -> None:
    """It came by another way, or after a newer one was heard, or others wait behind it."""
    await office.node()
    job, attempt = await running(office)
    hear, held = office.watch.hear, (attempt,)
    await hear(office.desk, [wire.Beat(N1, held, boot="b", at=10.0)])
    await hear(office.desk, [wire.Beat(N1, boot="b", at=9.0)])
    await hear(office.desk, [wire.Beat(N1, boot="b", at=11.0)], current=False)
    await hear(office.desk, [wire.Beat(N1, boot="b", at=11.0), wire.Beat(N1, held, boot="b", at=12.0)])
    assert (await office.ledger.task(job)).task.state is TaskState.ACTIVE
    for at in (13.0, 14.0):
        await hear(office.desk, [wire.Beat(N1, boot="b", at=at)])
    assert (await office.ledger.task(job)).task.state is TaskState.QUEUED


@pytest.mark.usefixtures("no_grace")
async def test_a_clock_that_was_set_back_is_believed_after_a_while(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual machine on an earlier snapshot, or a beat that somebody made up."""
    await office.node()
    job, attempt = await running(office)
    await office.watch.hear(office.desk, [wire.Beat(N1, (attempt,), boot="b", at=1e308)])
    for at in (1.0, 2.0):
        await office.watch.hear(office.desk, [wire.Beat(N1, boot="b", at=at)])
    assert (await office.ledger.task(job)).task.state is TaskState.ACTIVE
    monkeypatch.setattr(inventory, "LATE_S", 0.0)
    for at in (3.0, 4.0):
        await office.watch.hear(office.desk, [wire.Beat(N1, boot="b", at=at)])
    assert (await office.ledger.task(job)).task.state is TaskState.QUEUED


@pytest.mark.usefixtures("no_grace")
async def test_what_the_picture_missed_is_taken_up(office: Office) -> None:
    await office.node()
    _, attempt = await running(office)
    office.desk.picture.drop(attempt)
    await office.beat(N1, attempt)
    await office.beat(N1, attempt)
    assert attempt in office.desk.picture.live
    assert await office.orders() != [wire.Forget((attempt,))]


async def test_beats_are_written_down_together(office: Office) -> None:
    await office.node(N1)
    await office.node(N2)
    await office.ledger.one("UPDATE nodes SET heartbeat_at = 'epoch' RETURNING 1")
    await office.beat(N1)
    await office.beat(N2)
    await office.watch.tick(office.desk)
    assert await office.ledger.one("SELECT count(DISTINCT heartbeat_at) FROM nodes WHERE heartbeat_at > 'epoch'") == 1
    assert await office.ledger.one("SELECT count(*) FROM nodes WHERE heartbeat_at = 'epoch'") == 0
