"""What follows the end of an attempt: done, another try, or the end of the budget. Two budgets, both bounded.

`max_retries` counts failures of the work itself; `max_infra_losses` counts attempts the infrastructure lost. A task
that seems to take its nodes down is given up sooner (MAX_NODE_LOSSES). A refusal by a node costs neither; there is a
bound on them too. Only a drain costs nothing at all: it is an operator's doing, and ends when the operator wants.
"""

import zlib
from dataclasses import dataclass, replace

from windlass.core.spec import Backoff
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.core.task import Attempt, Task

#: Nodes that may be lost while a task runs on them, before it is taken for the cause.
MAX_NODE_LOSSES = 3
#: Attempts nodes may send back before a task fails; with the delays between them some ten minutes.
MAX_REFUSALS = 20
#: A limit counts as reached this close to its moment: reports carry ages, not clocks.
DEADLINE_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The task after its attempt, and the record's details."""

    task: Task
    delay_s: float | None = None


def delay(backoff: Backoff, retry: int, salt: str) -> float:
    """Seconds before retry number `retry` (from 0): exponential, capped, with jitter drawn from the salt."""
    base = min(backoff.initial * backoff.factor ** min(retry, 64), backoff.max)
    share = zlib.crc32(salt.encode()) / 0xFFFF_FFFF * 2 - 1
    return max(0.0, min(base * (1 + backoff.jitter * share), backoff.max))


def after(task: Task, attempt: Attempt, now: float) -> Verdict:
    """The task once this attempt has ended."""
    over = task.deadline_at is not None and now + DEADLINE_SLACK_S >= task.deadline_at
    match attempt.state:
        case AttemptState.SUCCEEDED:
            return Verdict(_end(task, TaskState.SUCCEEDED, None, now))
        case _ if task.cancel_requested:
            return Verdict(_end(task, TaskState.CANCELLED, "cancelled by request", now))
        case AttemptState.FAILED:
            if over:
                return Verdict(_end(task, TaskState.FAILED, f"job_deadline passed; {_why(attempt)}", now))
            if task.retries >= task.spec.max_retries:
                return Verdict(_end(task, TaskState.FAILED, _spent(task, attempt), now))
            pause = delay(task.spec.backoff, task.retries, attempt.id)
            return _pause(replace(task, retries=task.retries + 1), pause, _why(attempt), now)
        case AttemptState.LOST | AttemptState.CANCELLED if Cause.DRAINED in (attempt.cause, attempt.stop_cause):
            return _pause(task, 0.0, _why(attempt), now)
        case AttemptState.LOST:
            return _lost(task, attempt, now)
        case _:
            return _sent_back(task, attempt, now)


def _lost(task: Task, attempt: Attempt, now: float) -> Verdict:
    lost = replace(task, infra_losses=task.infra_losses + 1)
    limit = task.spec.max_infra_losses
    if lost.node_losses >= MAX_NODE_LOSSES:
        where = f"{lost.node_losses} nodes were lost while it ran there (last: {attempt.node_name})"
        return Verdict(_end(lost, TaskState.FAILED, f"stopped being tried: {where}", now))
    if lost.infra_losses > limit:
        reason = f"lost {lost.infra_losses} times (max_infra_losses {limit}); last: {_why(attempt)}"
        return Verdict(_end(lost, TaskState.FAILED, reason, now))
    return _pause(lost, 0.0, _why(attempt), now)


def _sent_back(task: Task, attempt: Attempt, now: float) -> Verdict:
    """Refused by its node, or stopped there when nobody had asked for it."""
    back = replace(task, refusals=task.refusals + 1)
    if back.refusals > MAX_REFUSALS:
        reason = f"sent back {back.refusals} times (limit {MAX_REFUSALS}); last: {_why(attempt)}"
        return Verdict(_end(back, TaskState.FAILED, reason, now))
    pause = delay(Backoff(initial=0.5, max=30.0), min(back.refusals, 8), attempt.id)
    return _pause(back, pause, _why(attempt), now)


def _end(task: Task, state: TaskState, reason: str | None, now: float) -> Task:
    return replace(task, state=state, reason=reason, finished_at=now, not_before=None)


def _pause(task: Task, pause: float, why: str, now: float) -> Verdict:
    if pause <= 0:
        return Verdict(replace(task, state=TaskState.QUEUED, queued_at=now, not_before=None, reason=why), 0.0)
    return Verdict(replace(task, state=TaskState.BACKOFF, not_before=now + pause, reason=why), pause)


def _why(attempt: Attempt) -> str:
    """One clause on how the attempt ended, such as `attempt 2 failed on n1: exit_code 3`."""
    what = attempt.cause or attempt.state
    detail = f" {attempt.exit_code}" if attempt.cause in (Cause.EXIT_CODE, Cause.SIGNAL) else ""
    more = f" ({attempt.message})" if attempt.message else ""
    return f"attempt {attempt.number} {attempt.state} on {attempt.node_name}: {what}{detail}{more}"


def _spent(task: Task, attempt: Attempt) -> str:
    budget = f"no retries left (max_retries {task.spec.max_retries})" if task.spec.max_retries else "max_retries is 0"
    return f"{_why(attempt)}; {budget}"
