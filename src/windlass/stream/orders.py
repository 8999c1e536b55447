"""What a node is to be told of an attempt. Two ask: the leader, which sends it, and the API, which answers a worker
that the stream does not reach."""

import msgspec

from windlass import tracing
from windlass.core.states import AttemptState, Cause
from windlass.core.task import Attempt, Task
from windlass.core.trace import place_span
from windlass.stream import wire

#: Seconds a node has to take up what it was sent, or to say how far it is, before it is asked again.
GRACE_S = 3.0


def launch(task: Task, attempt: Attempt, spec_text: str, now: float) -> wire.LaunchRaw:
    """The order to run this attempt. `now` is in database seconds."""
    deadline = None if task.deadline_at is None else max(0.0, task.deadline_at - now)
    spec = msgspec.Raw(spec_text.encode())
    order = wire.LaunchRaw(attempt.id, attempt.fence, attempt.number, task.job_id, spec, deadline)
    trace = tracing.below(task.trace, place_span(task.id, attempt.number))
    if trace is None:
        return order
    return msgspec.structs.replace(order, traceparent=trace.traceparent, tracestate=trace.state)


def stop(attempt: Attempt) -> wire.Stop:
    """The order to end this attempt. A drain is told as a cancel: workers of version 0.1 know no other word for it."""
    match attempt.stop_cause:
        case Cause.TIMEOUT:
            return wire.Stop(attempt.id, attempt.fence, Cause.TIMEOUT, "a time limit passed")
        case Cause.DRAINED:
            return wire.Stop(attempt.id, attempt.fence, Cause.CANCELLED, "its node is drained")
        case _:
            return wire.Stop(attempt.id, attempt.fence, Cause.CANCELLED, "cancelled by request")


def order_again(task: Task, attempt: Attempt | None, spec_text: str, now: float) -> wire.LaunchRaw | wire.Stop | None:
    """What the node must be told of a live attempt, should it not know: the answer to anything lost on the way."""
    if attempt is None:
        return None
    if attempt.state is AttemptState.PLACED:
        return launch(task, attempt, spec_text, now)
    return stop(attempt) if attempt.state is AttemptState.STOPPING else None


def untold(attempt: Attempt, now: float) -> bool:
    """Whether an attempt that its node holds is at its beginning for so long that word of it may have been lost."""
    beginning = attempt.state in (AttemptState.PLACED, AttemptState.PREPARING)
    return beginning and now - attempt.placed_at >= GRACE_S
