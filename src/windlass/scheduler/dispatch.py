"""Dispatch: look at the heads of the line, plan, write the placements, let the nodes know."""

from windlass.core.attempt import step
from windlass.core.events import Placed
from windlass.core.ids import ATTEMPT, AttemptId, TaskId
from windlass.core.placement.plan import Plan, plan
from windlass.core.placement.snapshot import NOTHING, Snapshot
from windlass.core.states import NodeState
from windlass.core.task import Step
from windlass.mint import new_id
from windlass.scheduler.desk import Desk
from windlass.store import tasks

BATCH = 256


async def run_once(desk: Desk) -> int:
    """Place what can be placed; returns how many were. Costs O(shapes + nodes + placements), whatever waits behind."""
    picture = desk.picture
    if not picture.waiting:
        return 0
    limits = _limits(desk)
    if limits is None:
        return 0
    heads, shapes, now = await tasks.heads(desk.conn, limits)
    picture.shapes.update(shapes)
    if now is not None:
        picture.set_clock(now)
    by_id = {head.live.task.id: head.live for head in heads}
    snapshot = Snapshot(picture.fleet(), picture.shapes, [head.pending for head in heads])
    made = plan(snapshot, picture.now(), policy=desk.rules.policy, reserve_after_s=desk.rules.reserve_after_s)
    steps = _steps(desk, made, by_id)
    left = await desk.write(steps, {task_id: live.spec_text for task_id, live in by_id.items()}) if steps else []
    full = any(sum(h.pending.shape == s for h in heads) >= n for s, n in limits.items()) if heads else False
    picture.waiting = bool(left) or full or len(steps) < len(heads) or any(s not in limits for s in shapes)
    return len(steps) - len(left)


def _limits(desk: Desk) -> dict[int, int] | None:
    """How many heads of each known shape could be placed at most, one at least; None when nothing could be."""
    picture = desk.picture
    if not any(n.state is NodeState.READY and not n.cordoned for n in picture.nodes.values()):
        return None
    free = picture.free()
    limits: dict[int, int] = {}
    room = not picture.shapes
    for number, shape in picture.shapes.items():
        by_cpu = free.millis // shape.need.millis
        by_memory = free.memory // shape.need.memory
        count = min(by_cpu, by_memory, BATCH)
        room = room or count > 0
        limits[number] = max(1, count)
    return limits if room or free != NOTHING else None


def _steps(desk: Desk, made: Plan, by_id: dict[TaskId, tasks.Live]) -> list[Step]:
    now = desk.picture.now()
    steps: list[Step] = []
    for placement in made.placements:
        node = desk.picture.nodes[placement.node_id]
        event = Placed(AttemptId(new_id(ATTEMPT)), node.id, node.name, desk.term)
        result = step(by_id[placement.task_id].task, None, event, now)
        if isinstance(result, Step):
            steps.append(result)
    return steps
