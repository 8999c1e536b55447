"""What follows the end of an attempt: done, another try, or the end of the budget. Two budgets, both bounded.

`max_retries` counts failures of the work itself; `MAX_INFRA_LOSSES` counts attempts the infrastructure lost. A refusal
by a node costs neither; there is a bound on them too.
"""

import zlib
from dataclasses import dataclass, replace

from windlass.core.spec import Backoff
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.core.task import Attempt, Task

#: Attempts a task may lose to infrastructure before it fails.
MAX_INFRA_LOSSES = 5
#: Attempts nodes may refuse before a task fails; with the delays between them some ten minutes.
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
        case AttemptState.LOST:
            lost = replace(task, infra_losses=task.infra_losses + 1)
            if lost.infra_losses > MAX_INFRA_LOSSES:
                reason = f"lost {lost.infra_losses} times (limit {MAX_INFRA_LOSSES}); last: {_why(attempt)}"
                return Verdict(_end(lost, TaskState.FAILED, reason, now))
            return _pause(lost, 0.0, _why(attempt), now)
        case AttemptState.REJECTED if _free(task) > MAX_REFUSALS:
            reason = f"refused {_free(task)} times; last: {_why(attempt)}"
            return Verdict(_end(task, TaskState.FAILED, reason, now))
        case _:
            pause = delay(Backoff(initial=0.5, max=30.0), min(attempt.number, 8), attempt.id)
            return _pause(task, pause, _why(attempt), now)


def _free(task: Task) -> int:
    """Attempts that cost neither budget, the one that just ended among them."""
    return task.attempts - task.retries - task.infra_losses


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
