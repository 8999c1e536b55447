"""The plan, held against its promises on random fleets and lines."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import GIB, T0, a_node, a_pending, a_shape
from windlass.core.placement.filters import could_fit, fits, misfits
from windlass.core.placement.plan import Plan, plan
from windlass.core.placement.scores import Policy, score
from windlass.core.placement.snapshot import Node, Pending, Room, Shape, Snapshot
from windlass.core.states import Driver, NodeState

CPU = st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0, 8.0])
MEMORY = st.sampled_from([GIB // 2, GIB, 3 * GIB, 16 * GIB])
SHAPES = st.lists(
    st.builds(a_shape, CPU, MEMORY, st.sampled_from([Driver.PROCESS, Driver.DOCKER])), min_size=1, max_size=4
)


@st.composite
def nodes(draw: st.DrawFn) -> list[Node]:
    made: list[Node] = []
    for number in range(draw(st.integers(0, 4))):
        node = a_node(f"n{number}", draw(CPU), draw(MEMORY))
        used = Room(
            draw(st.integers(0, node.capacity.millis // 250)) * 250,
            draw(st.integers(0, node.capacity.memory // (GIB // 2))) * (GIB // 2),
        )
        made.append(
            replace(
                node,
                used=used,
                state=draw(st.sampled_from([NodeState.READY, NodeState.READY, *NodeState])),
                cordoned=draw(st.sampled_from([False, False, True])),
                drivers=frozenset(draw(st.sets(st.sampled_from([Driver.PROCESS, Driver.DOCKER])))),
            )
        )
    return made


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    shapes = dict(enumerate(draw(SHAPES)))
    pending = [
        a_pending(
            draw(st.sampled_from(sorted(shapes))),
            priority=draw(st.integers(-1, 1)),
            seq=number,
            queued_at=T0 - draw(st.sampled_from([0, 100])),
        )
        for number in range(draw(st.integers(0, 12)))
    ]
    return Snapshot(draw(nodes()), shapes, draw(st.permutations(pending)))


def ranked(snapshot: Snapshot) -> list[Pending]:
    return sorted(snapshot.pending, key=lambda p: (-p.priority, p.seq))


def replay(snapshot: Snapshot, made: Plan) -> None:
    """Go through the line once more, by the plain rules, and check each decision at its moment."""
    fleet = {node.id: node for node in snapshot.nodes}
    went = {p.task_id: p.node_id for p in made.placements}
    closed = None
    for task in ranked(snapshot):
        shape = snapshot.shapes[task.shape]
        open_nodes = [n for n in fleet.values() if n.id != closed]
        able = [n for n in open_nodes if fits(n, shape)]
        node_id = went.get(task.task_id)
        assert (node_id is not None) == bool(able), "placed exactly when it fits somewhere, and only there"
        if node_id is not None:
            node = fleet[node_id]
            assert node in able
            fleet[node_id] = replace(node, used=node.used + shape.need)
            assert node.capacity.holds(fleet[node_id].used), "never more than a node has"
        else:
            assert task.shape in made.blocked
            if made.reserved is not None and made.reserved.task_id == task.task_id:
                closed = made.reserved.node_id
                assert could_fit(fleet[closed], shape)


@settings(max_examples=250, deadline=None)
@given(snapshots(), st.sampled_from(Policy))
def test_a_plan_keeps_its_promises(snapshot: Snapshot, policy: Policy) -> None:
    made = plan(snapshot, T0, policy=policy)
    replay(snapshot, made)
    assert [p.task_id for p in made.placements] == [
        p.task_id for p in ranked(snapshot) if p.task_id in {q.task_id for q in made.placements}
    ], "in rank order"
    if made.reserved is not None:
        waited = {p.task_id: T0 - p.queued_at for p in snapshot.pending}
        assert waited[made.reserved.task_id] >= 60


@settings(max_examples=100, deadline=None)
@given(snapshots(), st.sampled_from(Policy), st.randoms())
def test_a_plan_depends_on_nothing_but_the_moment(snapshot: Snapshot, policy: Policy, random) -> None:
    pending, fleet = list(snapshot.pending), list(snapshot.nodes)
    random.shuffle(pending)
    random.shuffle(fleet)
    again = plan(Snapshot(fleet, snapshot.shapes, pending), T0, policy=policy)
    assert again == plan(snapshot, T0, policy=policy)


@settings(max_examples=250, deadline=None)
@given(snapshots(), st.sampled_from(Policy))
def test_each_placement_takes_the_best_node_of_its_moment(snapshot: Snapshot, policy: Policy) -> None:
    made = plan(snapshot, T0, policy=policy, reserve_after_s=float("inf"))
    fleet = {node.id: node for node in snapshot.nodes}
    shapes = {p.task_id: snapshot.shapes[p.shape] for p in snapshot.pending}
    for placement in made.placements:
        shape = shapes[placement.task_id]
        able = [n for n in fleet.values() if fits(n, shape)]
        best = min(able, key=lambda n: score(policy, n.free, n))
        assert placement.node_id == best.id
        fleet[best.id] = replace(best, used=best.used + shape.need)


@given(nodes(), st.builds(a_shape, CPU, MEMORY))
def test_a_node_fits_exactly_when_nothing_speaks_against_it(fleet: list[Node], shape: Shape) -> None:
    for node in fleet:
        assert fits(node, shape) == (not list(misfits(node, shape)))
        assert could_fit(node, shape) or not fits(node, shape)


def went(made: Plan) -> dict[str, str]:
    return {str(p.task_id): str(p.node_id) for p in made.placements}


def test_priority_then_arrival() -> None:
    line = [a_pending(seq=1), a_pending(seq=2), a_pending(seq=3, priority=5), a_pending(seq=4, priority=5)]
    made = plan(Snapshot([a_node(cpu=3)], {1: a_shape(1)}, line), T0)
    assert [p.task_id for p in made.placements] == ["tsk_3", "tsk_4", "tsk_1"]


def test_what_does_not_fit_does_not_hold_up_what_does() -> None:
    line = [a_pending(1, seq=1), a_pending(2, seq=2)]
    made = plan(Snapshot([a_node(cpu=2)], {1: a_shape(8), 2: a_shape(1)}, line), T0)
    assert went(made) == {"tsk_2": "node_n1"}
    assert made.blocked == {1}


def test_nothing_is_placed_on_a_node_that_takes_no_work() -> None:
    fleet = [
        a_node("cordoned", cordoned=True),
        a_node("suspect", state=NodeState.SUSPECT),
        a_node("lost", state=NodeState.LOST),
        a_node("docker", drivers=frozenset({Driver.DOCKER})),
    ]
    assert plan(Snapshot(fleet, {1: a_shape()}, [a_pending()]), T0).placements == ()


def test_best_fit_fills_and_spread_spreads() -> None:
    fleet = [a_node("a", 4), a_node("b", 4), a_node("c", 4, used=Room(1000, 2 * GIB))]
    line = [a_pending(seq=n) for n in range(3)]
    packed = plan(Snapshot(fleet, {1: a_shape()}, line), T0)
    assert set(went(packed).values()) == {"node_c"}
    spread = plan(Snapshot(fleet, {1: a_shape()}, line), T0, policy=Policy.SPREAD)
    assert went(spread) == {"tsk_0": "node_a", "tsk_1": "node_b", "tsk_2": "node_a"}


def test_best_fit_sees_what_other_shapes_took() -> None:
    """The second small task goes where the big one left the least."""
    fleet = [a_node("a", 4), a_node("b", 8)]
    line = [a_pending(1, seq=1), a_pending(2, seq=2), a_pending(1, seq=3)]
    made = plan(Snapshot(fleet, {1: a_shape(1), 2: a_shape(6, 7 * GIB)}, line), T0)
    assert went(made) == {"tsk_1": "node_a", "tsk_2": "node_b", "tsk_3": "node_b"}


def test_room_is_kept_for_a_big_task_that_waited_long() -> None:
    """The node that lacks least is closed to those behind it; those before it, and other nodes, go on as ever."""
    fleet = [a_node("busy", 4, used=Room(2000, GIB)), a_node("busier", 4, used=Room(4000, GIB)), a_node("small", 2)]
    big, small = 1, 2
    line = [a_pending(big, seq=1, queued_at=T0 - 61), a_pending(big, seq=2, queued_at=T0 - 61)]
    line += [a_pending(small, seq=n) for n in (3, 4, 5)] + [a_pending(small, seq=6, priority=1)]
    snapshot = Snapshot(fleet, {big: a_shape(4), small: a_shape(1)}, line)
    patient = plan(snapshot, T0, reserve_after_s=100)
    assert patient.reserved is None
    assert set(went(patient)) == {"tsk_6", "tsk_3", "tsk_4", "tsk_5"}
    made = plan(snapshot, T0)
    assert made.reserved is not None
    assert (made.reserved.task_id, made.reserved.node_id) == ("tsk_1", "node_busy")
    assert went(made) == {"tsk_6": "node_busy", "tsk_3": "node_small", "tsk_4": "node_small"}


def test_no_room_is_kept_for_what_no_node_can_ever_hold() -> None:
    line = [a_pending(1, seq=1, queued_at=T0 - 999), a_pending(2, seq=2)]
    made = plan(Snapshot([a_node(cpu=4)], {1: a_shape(64), 2: a_shape(1)}, line), T0)
    assert made.reserved is None
    assert set(went(made)) == {"tsk_2"}


def test_the_reserved_task_goes_first_once_it_fits() -> None:
    line = [a_pending(1, seq=1, queued_at=T0 - 999), a_pending(2, seq=2)]
    made = plan(Snapshot([a_node(cpu=4)], {1: a_shape(4), 2: a_shape(1)}, line), T0)
    assert set(went(made)) == {"tsk_1"}
    assert made.reserved is None
