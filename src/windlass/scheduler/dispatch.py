"""Dispatch: look at the heads of the line, plan, write the placements, let the nodes know."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from windlass import __version__
from windlass.core.events import Placed
from windlass.core.ids import ATTEMPT, AttemptId, NodeId
from windlass.core.placement.plan import Plan, plan
from windlass.core.placement.snapshot import NOTHING, Node, Room, Snapshot
from windlass.core.task import Step
from windlass.metrics import scheduler as metrics
from windlass.mint import new_id
from windlass.scheduler import ingest
from windlass.scheduler.desk import Desk
from windlass.scheduler.ingest import Moves
from windlass.scheduler.line import AHEAD, FEW_SHAPES
from windlass.store import tasks
from windlass.store.tasks import said, unread

log = structlog.get_logger("scheduler")

BATCH = 256
#: How often the line is read in one go, when what was found in it had to be parked.
READS = 8


async def run_once(desk: Desk, ends: Moves | None = None) -> int:
    """Place what can be placed; returns how many were. Costs O(shapes + nodes + placements), whatever waits behind.

    With `ends`, what ended and what takes its place are one write. The room of an attempt whose end is being written
    counts as free: its node gave it back before it reported."""
    began = time.perf_counter()
    freed = desk.picture.room_of(ends.freed()) if ends else {}
    placements, texts = await _placements(desk, freed)
    steps = [*(ends.steps.values() if ends else ()), *placements]
    if not steps:
        return 0
    if ends is not None:
        texts.update(ends.texts)
    left = await desk.write(steps, texts)
    if ends is not None:
        await ingest.advance(desk, ingest.behind(desk, ends, left))
    missed = len({step.task.id for step in left} & {step.task.id for step in placements})
    if missed:
        desk.line.clear()
    placed = len(placements) - missed
    if placed:
        metrics.PLACEMENT.observe(time.perf_counter() - began)
        metrics.BATCH_SIZE.observe(placed)
    return placed


async def _placements(desk: Desk, freed: Mapping[NodeId, Room]) -> tuple[list[Step], dict[str, str]]:
    picture, line = desk.picture, desk.line
    nothing: tuple[list[Step], dict[str, str]] = [], {}
    if line.fresh and not line.heads and not line.cut:
        return nothing
    fleet = picture.fleet(freed)
    room = _room(desk, fleet)
    if room is None or (line.fresh and not any(room.values())):
        return nothing
    if not line.fresh or not line.covers(room):
        await _read(desk, room)
    snapshot = Snapshot(fleet, picture.shapes, line.pending())
    steps = _steps(desk, _planned(desk, snapshot))
    await desk.park()
    return steps


def _planned(desk: Desk, snapshot: Snapshot) -> Plan:
    """The plan; shapes that make it fail are left out, and their tasks are stuck."""
    rules, now = desk.rules, desk.picture.now()

    def made(asked: Snapshot) -> Plan:
        with metrics.PLAN.time():
            return plan(asked, now, policy=rules.policy, reserve_after_s=rules.reserve_after_s)

    try:
        return made(snapshot)
    except Exception as error:
        log.exception("plan_failed")
        waiting = snapshot.pending
        bad = {shape for shape in {one.shape for one in waiting} if _fails(made, snapshot, shape)}
        if not bad:
            raise
        why = f"version {__version__} cannot place it: {type(error).__name__}: {said(error)}"
        desk.stuck += [unread(desk.line.heads[one.task_id].live, why) for one in waiting if one.shape in bad]
        return made(replace(snapshot, pending=[one for one in waiting if one.shape not in bad]))


def _fails(made: Callable[[Snapshot], Plan], snapshot: Snapshot, shape: int) -> bool:
    try:
        made(replace(snapshot, pending=[one for one in snapshot.pending if one.shape == shape]))
    except Exception:
        return True
    return False


def _room(desk: Desk, fleet: Sequence[Node]) -> dict[int, int] | None:
    """How many of each known shape there could be room for at most; None when no node takes work."""
    free = sum((n.free for n in fleet if n.open), NOTHING)
    if free.millis <= 0 or free.memory <= 0:
        return None
    return {number: min(free.times(shape.need), BATCH) for number, shape in desk.picture.shapes.items()}


async def _read(desk: Desk, room: Mapping[int, int]) -> None:
    ahead = AHEAD if len(room) <= FEW_SHAPES else 1
    limits = {shape: max(n, ahead) for shape, n in room.items()}
    for _ in range(READS):
        heads, shapes, now, others = await tasks.heads(desk.conn, limits)
        desk.picture.shapes.update(shapes)
        if now is not None:
            desk.picture.set_clock(now)
        await desk.park(others)
        desk.line.fill(heads, limits)
        if not others:
            break


def _steps(desk: Desk, made: Plan) -> tuple[list[Step], dict[str, str]]:
    now = desk.picture.now()
    steps: list[Step] = []
    texts: dict[str, str] = {}
    for placement in made.placements:
        node, live = desk.picture.nodes[placement.node_id], desk.line.remove(placement.task_id)
        event = Placed(AttemptId(new_id(ATTEMPT)), node.id, node.name, desk.term)
        result = desk.step(live, event, now)
        if isinstance(result, Step):
            steps.append(result)
            texts[live.task.id] = live.spec_text
    return steps, texts
