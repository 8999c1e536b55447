"""Ingest: reports of attempts become steps, one write for all of them.

Reports of one attempt that arrive together are folded into one step. A report of an attempt the picture does not hold
is looked up in the ledger; one the ledger holds as ended, or not at all, changes nothing and is answered with Forget.
Of one that cannot be read, or not be moved, nothing is said: its node keeps what it knows until somebody can.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from windlass.core import events
from windlass.core.attempt import fold, late
from windlass.core.events import AttemptEvent, DrainDue, Ignored
from windlass.core.ids import AttemptId, NodeId, TaskId
from windlass.core.task import Step
from windlass.scheduler.desk import Desk
from windlass.store import late as late_reports
from windlass.store import tasks
from windlass.store.late import Late
from windlass.store.tasks import Live
from windlass.stream import wire

log = structlog.get_logger("scheduler")

AttemptReport = wire.Prepared | wire.Started | wire.Exited | wire.Refused
_ROUNDS = 3


#: What happened to an attempt, and the report that says so; none for what the leader found by itself.
Fact = tuple[AttemptId, AttemptEvent | DrainDue, AttemptReport | None]


@dataclass(frozen=True, slots=True)
class Moves:
    """Steps that facts ask for, at most one per task, not yet written; `texts` are specs by task id."""

    facts: Sequence[Fact]
    steps: Mapping[TaskId, Step]
    texts: Mapping[str, str]

    def freed(self) -> dict[NodeId, list[AttemptId]]:
        """The attempts that end with these steps, by node."""
        ended: dict[NodeId, list[AttemptId]] = defaultdict(list)
        for one in self.steps.values():
            if one.attempt is not None and one.attempt.state.terminal:
                ended[one.attempt.node_id].append(one.attempt.id)
        return ended


async def run_once(desk: Desk, reports: Sequence[AttemptReport]) -> int:
    """Apply reports; returns how many attempts moved."""
    return await advance(desk, facts(desk, reports))


def facts(desk: Desk, reports: Sequence[AttemptReport]) -> list[Fact]:
    """What reports say, in database seconds."""
    now = desk.picture.now()
    return [(r.attempt_id, _event(r, now), r) for r in reports]


async def moves(desk: Desk, told: Sequence[Fact]) -> Moves:
    """The steps these facts ask for."""
    known = await _known(desk, told)
    await _note_late(desk, told, known)
    texts: dict[str, str] = {live.task.id: live.spec_text for live in known.values()}
    steps = _steps(desk, told, known)
    await desk.park()
    return Moves(told, steps, texts)


async def advance(desk: Desk, told: Sequence[Fact]) -> int:
    """Move attempts by facts, those of workers and the leader's own findings (no report) alike."""
    moved = 0
    for _ in range(_ROUNDS):
        asked = await moves(desk, told)
        if not asked.steps:
            break
        left = await desk.write(list(asked.steps.values()), asked.texts)
        moved += len(asked.steps) - len(left)
        told = behind(desk, asked, left)
    return moved


def behind(desk: Desk, asked: Moves, left: Sequence[Step]) -> list[Fact]:
    """The facts whose rows something else moved first; what was known of those is dropped, to be read again."""
    stale = {s.attempt.id for s in left if s.attempt is not None and s.task.id in asked.steps}
    stale -= desk.picture.unread.keys()
    for attempt_id in stale:
        desk.picture.drop(attempt_id)
    return [fact for fact in asked.facts if fact[0] in stale]


async def _known(desk: Desk, told: Sequence[Fact]) -> dict[AttemptId, Live]:
    live = desk.picture.live
    known = {attempt_id: live[attempt_id] for attempt_id, _, _ in told if attempt_id in live}
    missing = list({attempt_id for attempt_id, _, _ in told} - known.keys())
    if missing:
        found, others = await tasks.by_attempt(desk.conn, missing)
        desk.picture.leave_alone(others)
        for one in found.values():
            desk.picture.refresh(one)
        known |= found
    return known


async def _note_late(desk: Desk, told: Sequence[Fact], known: Mapping[AttemptId, Live]) -> None:
    """Keep what nodes say of attempts they were counted to have lost. It moves nothing, so it need not wait."""
    notes: dict[AttemptId, Late] = {}
    for attempt_id, event, report in told:
        live = known.get(attempt_id)
        if live is None or live.attempt is None or report is None or report.node_id != live.attempt.node_id:
            continue
        if (text := late(live.attempt, event)) is not None:
            notes.setdefault(attempt_id, Late(live.attempt, live.task.job_id, text))
    if notes:
        await late_reports.note(desk.conn, list(notes.values()), term=desk.term)
        desk.happened = True


def _steps(desk: Desk, told: Sequence[Fact], known: dict[AttemptId, Live]) -> dict[TaskId, Step]:
    now = desk.picture.now()
    steps: dict[TaskId, Step] = {}
    for attempt_id, event, report in told:
        live = known.get(attempt_id)
        if live is None and attempt_id in desk.picture.unread:
            continue
        if live is None or live.attempt is None:
            _ignored(desk, report, "the ledger does not know it")
            continue
        if report is not None and report.node_id != live.attempt.node_id:
            desk.presence.health.noted("reports_from_wrong_node")
            log.debug("report_from_wrong_node", attempt_id=attempt_id, node_id=report.node_id)
            continue
        before = steps.get(live.task.id)
        task, attempt = (before.task if before else live.task), live.attempt
        if before and before.attempt and before.attempt.id == attempt_id:  # not of an earlier attempt of this task
            attempt = before.attempt
        result = desk.step(Live(task, attempt, live.spec_text), event, now)
        if result is None:
            continue
        if isinstance(result, Ignored):
            _ignored(desk, report, result.reason)
            continue
        steps[task.id] = fold(before, result) if before else result
    return steps


def _ignored(desk: Desk, report: AttemptReport | None, reason: str) -> None:
    if report is None:
        return
    log.debug("report_ignored", attempt_id=report.attempt_id, report=type(report).__name__, reason=reason)
    if isinstance(report, wire.Exited | wire.Refused):
        desk.forget(report.node_id, [report.attempt_id])


def _event(report: AttemptReport, now: float) -> AttemptEvent:
    match report:
        case wire.Prepared():
            return events.Prepared()
        case wire.Started():
            return events.Started(now - report.ago)
        case wire.Exited():
            began = None if report.started_ago is None else now - report.started_ago
            return events.Exited(now - report.ago, report.cause, report.exit_code, report.message, began)
        case wire.Refused():
            return events.Refused(report.message)
