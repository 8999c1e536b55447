"""The state machine: everything that moves a task or an attempt lives in this file.

TRANSITIONS says where each event may take a live attempt; `step` is the one verb. Pure: a late, doubled or reordered
event is answered with Ignored, never with an exception, so that any stream of events may be replayed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from windlass.core.events import (
    AttemptEvent,
    CancelRequested,
    Command,
    DrainDue,
    Due,
    Event,
    Exited,
    Ignored,
    LaunchCommand,
    NodeLost,
    Placed,
    Prepared,
    Record,
    Refused,
    RetryRequested,
    Started,
    StopCommand,
)
from windlass.core.retry import Verdict, after
from windlass.core.states import AttemptState as A
from windlass.core.states import Cause, TaskState
from windlass.core.task import Attempt, Step, Task, wake_at

_ENDS = (A.SUCCEEDED, A.FAILED, A.CANCELLED, A.LOST)

#: (state, event) -> the states it may lead to. A pair that is not here is ignored.
TRANSITIONS: Mapping[tuple[A, type[AttemptEvent]], tuple[A, ...]] = {
    (A.PLACED, Prepared): (A.PREPARING,),
    (A.PLACED, Started): (A.RUNNING,),
    (A.PLACED, Exited): _ENDS,
    (A.PLACED, Refused): (A.REJECTED,),
    (A.PLACED, NodeLost): (A.LOST,),
    (A.PREPARING, Started): (A.RUNNING,),
    (A.PREPARING, Exited): _ENDS,
    (A.PREPARING, Refused): (A.REJECTED,),
    (A.PREPARING, NodeLost): (A.LOST,),
    (A.RUNNING, Exited): _ENDS,
    (A.RUNNING, NodeLost): (A.LOST,),
    (A.STOPPING, Started): (A.STOPPING,),
    (A.STOPPING, Exited): _ENDS,
    (A.STOPPING, Refused): (A.REJECTED,),
    (A.STOPPING, NodeLost): (A.LOST,),
}


def step(task: Task, attempt: Attempt | None, event: Event, now: float) -> Step | Ignored:
    """The task and its latest attempt after one event. `now` is in database seconds."""
    if task.state.terminal:
        return Ignored(f"the task is {task.state}")
    match event:
        case Placed():
            return _place(task, event, now)
        case CancelRequested():
            return _cancel(task, attempt, now)
        case RetryRequested():
            return _retry_now(task, attempt, now)
        case Due():
            return _due(task, attempt, now)
        case DrainDue():
            return _drain(task, attempt, now)
        case Prepared() | Started() | Exited() | Refused() | NodeLost():
            return _report(task, attempt, event, now)
        case _:
            assert_never(event)


def late(attempt: Attempt, event: Event) -> str | None:
    """What a node says of the end of an attempt it was counted to have lost, in words; None when that is no news.

    It changes nothing but what is known: how long the copy lived that nobody counted on any more."""
    if attempt.state is not A.LOST or attempt.late is not None or attempt.finished_at is None:
        return None
    match event:
        case Exited() if (event.cause, event.message) != (attempt.cause, attempt.message):
            behind = event.at - attempt.finished_at
            when = f"{abs(behind):.1f} s {'after' if behind >= 0 else 'before'} it was counted lost"
            return f"{_ending(event)}, {when}"
        case Refused():
            return f"refused: {event.message}"
        case _:
            return None


def _ending(event: Exited) -> str:
    what = "" if event.cause is None else event.cause.value
    code = "" if event.exit_code is None else f"exit code {event.exit_code}"
    told = " ".join(filter(None, (what if what != "exit_code" else "", code)))
    return f"{told} ({event.message})" if event.message else told or "ended"


def fold(first: Step, second: Step) -> Step:
    """Two steps of one task, the second computed from the first's result, as one."""
    return Step(
        first.base, second.task, second.attempt, first.records + second.records, first.commands + second.commands
    )


def _place(task: Task, event: Placed, now: float) -> Step | Ignored:
    if task.state is not TaskState.QUEUED:
        return Ignored(f"the task is {task.state}, not queued")
    number = task.attempts + 1
    attempt = Attempt(event.attempt_id, number, event.node_id, event.node_name, event.fence, A.PLACED, now)
    active = replace(task, state=TaskState.ACTIVE, attempts=number, reason=None, not_before=None)
    return Step(
        task.version,
        active,
        attempt,
        (Record("job.placed", {"attempt": number, "attempt_id": attempt.id, "node": event.node_name}),),
        (LaunchCommand(attempt.id, event.node_id),),
    )


def _cancel(task: Task, attempt: Attempt | None, now: float) -> Step | Ignored:
    if task.cancel_requested:
        return Ignored("cancel was already requested")
    asked = replace(task, cancel_requested=True)
    record = Record("job.cancel_requested")
    if task.state is not TaskState.ACTIVE or attempt is None or attempt.state.terminal:
        done = replace(
            asked, state=TaskState.CANCELLED, reason="cancelled by request", finished_at=now, not_before=None
        )
        return Step(task.version, done, None, (record, Record("job.cancelled")))
    if attempt.state is A.STOPPING:
        return Step(task.version, asked, attempt, (record,))
    stopping, commands = _stop(attempt, Cause.CANCELLED, "cancelled by request", now)
    return Step(task.version, asked, stopping, (record,), commands)


def _retry_now(task: Task, attempt: Attempt | None, now: float) -> Step | Ignored:
    if task.state is not TaskState.BACKOFF:
        return Ignored(f"the task is {task.state}, not in backoff")
    queued = replace(task, state=TaskState.QUEUED, queued_at=now, not_before=None)
    return Step(task.version, queued, None, (Record("job.queued", {"by": "request"}),))


def _stop(attempt: Attempt, cause: Cause, message: str, now: float) -> tuple[Attempt, tuple[Command, ...]]:
    stopping = replace(attempt, state=A.STOPPING, stop_cause=cause, stop_sent_at=now)
    return stopping, (StopCommand(attempt.id, attempt.node_id, cause, message),)


def _drain(task: Task, attempt: Attempt | None, now: float) -> Step | Ignored:
    if attempt is None or attempt.state.terminal or attempt.state is A.STOPPING:
        return Ignored("nothing is left to be stopped")
    message = "its node is drained"
    stopping, commands = _stop(attempt, Cause.DRAINED, message, now)
    record = Record("job.stopping", {"attempt": attempt.number, "cause": Cause.DRAINED.value, "message": message})
    return Step(task.version, task, stopping, (record,), commands)


def _due(task: Task, attempt: Attempt | None, now: float) -> Step | Ignored:
    """A time limit fell: of the job, of the queue, of the backoff, or of the attempt its worker did not enforce."""
    moment = wake_at(task, attempt)
    if moment is None or now < moment:
        return Ignored("nothing is due")
    spec = task.spec
    over = task.deadline_at is not None and now >= task.deadline_at
    if task.state is not TaskState.ACTIVE:
        late = task.state is TaskState.QUEUED and spec.queue_timeout is not None
        if over or (late and now >= task.queued_at + (spec.queue_timeout or 0)):
            limit = "job_deadline" if over else "queue_timeout"
            reason = f"timeout: {limit} of {getattr(spec, limit):g} s passed while it waited"
            failed = replace(task, state=TaskState.FAILED, reason=reason, finished_at=now, not_before=None)
            return Step(task.version, failed, None, (Record("job.failed", {"cause": "timeout", "message": reason}),))
        if task.state is TaskState.BACKOFF and task.not_before is not None and now >= task.not_before:
            first = task.attempts == 0  # no retry: this was its scheduled start
            reason = None if first else task.reason
            queued = replace(task, state=TaskState.QUEUED, queued_at=now, not_before=None, reason=reason)
            return Step(task.version, queued, None, (Record("job.queued", {"by": "start" if first else "backoff"}),))
        return Ignored("nothing is due")
    if attempt is None or attempt.state.terminal:
        return Ignored("no live attempt")
    if attempt.state is A.STOPPING:
        cause = attempt.stop_cause or Cause.CANCELLED
        stopping, commands = _stop(attempt, cause, "stop sent again: no exit was reported", now)
        return Step(task.version, task, stopping, (), commands)
    limit = "job_deadline" if over else "attempt_timeout" if attempt.state is A.RUNNING else "start_timeout"
    message = f"{limit} of {getattr(spec, limit):g} s passed (enforced by the scheduler)"
    stopping, commands = _stop(attempt, Cause.TIMEOUT, message, now)
    record = Record("job.stopping", {"attempt": attempt.number, "cause": "timeout", "message": message})
    return Step(task.version, task, stopping, (record,), commands)


def _report(task: Task, attempt: Attempt | None, event: AttemptEvent, now: float) -> Step | Ignored:
    if attempt is None or attempt.state.terminal:
        return Ignored(f"the attempt is {attempt.state if attempt else 'unknown'}")
    if attempt.number != task.attempts:
        return Ignored(f"attempt {attempt.number} was superseded by {task.attempts}")
    targets = TRANSITIONS.get((attempt.state, type(event)))
    if targets is None:
        return Ignored(f"{type(event).__name__} does not move an attempt that is {attempt.state}")
    match event:
        case Prepared():
            return Step(task.version, task, replace(attempt, state=A.PREPARING))
        case Started() if attempt.started_at is not None:
            return Ignored("it had started already")
        case Started():
            started = replace(attempt, state=targets[0], started_at=event.at)
            return Step(task.version, task, started, (_started(started),))
        case Exited():
            return _exit(task, attempt, event, now)
        case Refused():
            ended = replace(attempt, state=A.REJECTED, cause=Cause.REJECTED, message=event.message, finished_at=now)
            return _ended(task, ended, now)
        case NodeLost():
            return _lose(task, attempt, event, now)
        case _:
            assert_never(event)


def _lose(task: Task, attempt: Attempt, event: NodeLost, now: float) -> Step | Ignored:
    if task.spec.exclusive and not event.gone:
        return Ignored("exclusive: waits until the old copy is proven gone")
    message = "the node was declared gone" if event.gone else "the node's lease lapsed"
    ended = replace(attempt, state=A.LOST, cause=Cause.NODE_LOST, message=message, finished_at=now)
    if attempt.started_at is not None and attempt.stop_cause is not Cause.DRAINED:
        task = replace(task, node_losses=task.node_losses + 1)
    return _ended(task, ended, now)


def _started(attempt: Attempt) -> Record:
    return Record("job.started", {"attempt": attempt.number, "attempt_id": attempt.id, "node": attempt.node_name})


def _cause(attempt: Attempt, event: Exited) -> Cause | None:
    """Why it ended, as far as its node can say."""
    if event.cause is Cause.CANCELLED and attempt.stop_cause is Cause.DRAINED:
        return Cause.DRAINED  # nodes are told to stop it as for a cancel: they need not know why
    unknown = event.exit_code is None and event.started_at is None
    if event.cause is Cause.TIMEOUT is attempt.stop_cause and unknown and attempt.started_at is not None:
        return Cause.NODE_LOST  # it ran, and its node, asked to end it, knew nothing of it: it lost it long ago
    return event.cause


def _exit(task: Task, attempt: Attempt, event: Exited, now: float) -> Step:
    cause = _cause(attempt, event)
    match cause:
        case None:
            state = A.SUCCEEDED
        case Cause.CANCELLED | Cause.DRAINED:
            state = A.CANCELLED
        case Cause.NODE_LOST:
            state = A.LOST
        case _:
            state = A.FAILED
    records: tuple[Record, ...] = ()
    started_at = attempt.started_at
    if started_at is None and event.started_at is not None:
        started_at = event.started_at
        records = (_started(attempt),)
    ended = replace(
        attempt,
        state=state,
        started_at=started_at,
        finished_at=event.at,
        cause=cause,
        exit_code=event.exit_code,
        message=event.message,
    )
    return fold(Step(task.version, task, attempt, records), _ended(task, ended, now))


def _ended(task: Task, attempt: Attempt, now: float) -> Step:
    """The attempt is over: record it once, with what follows for the task."""
    verdict = after(task, attempt, now)
    return Step(task.version, verdict.task, attempt, (_end_record(verdict, attempt),))


def _end_record(verdict: Verdict, attempt: Attempt) -> Record:
    data: dict[str, Any] = {
        "attempt": attempt.number,
        "attempt_id": attempt.id,
        "node": attempt.node_name,
        "outcome": attempt.state.value,
    }
    if attempt.exit_code is not None:
        data["exit_code"] = attempt.exit_code
    if attempt.cause is not None:
        data |= {"cause": attempt.cause.value, "message": attempt.message}
    if verdict.delay_s is not None:
        data["delay_s"] = round(verdict.delay_s, 3)
    return Record(f"job.{verdict.task.state}", data)
