"""Dispatch: look at the heads of the line, plan, write the placements, let the nodes know."""

from collections.abc import Mapping

from windlass.core.attempt import step
from windlass.core.events import Placed
from windlass.core.ids import ATTEMPT, AttemptId
from windlass.core.placement.plan import Plan, plan
from windlass.core.placement.snapshot import Snapshot
from windlass.core.task import Step
from windlass.mint import new_id
from windlass.scheduler.desk import Desk
from windlass.scheduler.line import AHEAD, FEW_SHAPES
from windlass.store import tasks

BATCH = 256


async def run_once(desk: Desk) -> int:
    """Place what can be placed; returns how many were. Costs O(shapes + nodes + placements), whatever waits behind."""
    picture, line = desk.picture, desk.line
    if line.fresh and not line.heads and not line.cut:
        return 0
    room = _room(desk)
    if room is None or (line.fresh and not any(room.values())):
        return 0
    if not line.fresh or not line.covers(room):
        await _read(desk, room)
    snapshot = Snapshot(picture.fleet(), picture.shapes, line.pending())
    made = plan(snapshot, picture.now(), policy=desk.rules.policy, reserve_after_s=desk.rules.reserve_after_s)
    steps, texts = _steps(desk, made)
    if not steps:
        return 0
    left = await desk.write(steps, texts)
    if left:
        line.clear()
    return len(steps) - len(left)


def _room(desk: Desk) -> dict[int, int] | None:
    """How many of each known shape there could be room for at most; None when no node takes work."""
    picture = desk.picture
    free = picture.free()
    if free.millis <= 0 or free.memory <= 0:
        return None
    return {
        number: min(free.millis // shape.need.millis, free.memory // shape.need.memory, BATCH)
        for number, shape in picture.shapes.items()
    }


async def _read(desk: Desk, room: Mapping[int, int]) -> None:
    ahead = AHEAD if len(room) <= FEW_SHAPES else 1
    limits = {shape: max(n, ahead) for shape, n in room.items()}
    heads, shapes, now = await tasks.heads(desk.conn, limits)
    desk.picture.shapes.update(shapes)
    if now is not None:
        desk.picture.set_clock(now)
    desk.line.fill(heads, limits)


def _steps(desk: Desk, made: Plan) -> tuple[list[Step], dict[str, str]]:
    now = desk.picture.now()
    steps: list[Step] = []
    texts: dict[str, str] = {}
    for placement in made.placements:
        node, live = desk.picture.nodes[placement.node_id], desk.line.remove(placement.task_id)
        event = Placed(AttemptId(new_id(ATTEMPT)), node.id, node.name, desk.term)
        result = step(live.task, None, event, now)
        if isinstance(result, Step):
            steps.append(result)
            texts[live.task.id] = live.spec_text
    return steps, texts
