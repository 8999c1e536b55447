"""Facts that move a task, in the past tense, and what a move leaves behind: records for the log, commands for nodes.

All moments are seconds since the epoch by the database's clock.
"""

from dataclasses import dataclass, field
from typing import Any

from windlass.core.ids import AttemptId, NodeId
from windlass.core.states import Cause


@dataclass(frozen=True, slots=True)
class Placed:
    """The plan gave the task to a node, under a leader's term."""

    attempt_id: AttemptId
    node_id: NodeId
    node_name: str
    fence: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """The node has taken the attempt: it pulls and creates."""


@dataclass(frozen=True, slots=True)
class Started:
    """The container or process runs since `at`."""

    at: float


@dataclass(frozen=True, slots=True)
class Exited:
    """It is proven gone. No cause means success."""

    at: float
    cause: Cause | None = None
    exit_code: int | None = None
    message: str = ""
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The node did not take it; nothing ran."""

    message: str


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The lease of the attempt's node lapsed. `gone`: an operator vouches that nothing runs there any more."""

    gone: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """The moment in `wake_at` has passed."""


@dataclass(frozen=True, slots=True)
class DrainDue:
    """Its node is drained, and the time it was left to end by itself is over."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A user wants it to end."""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """A user does not want to wait for the backoff."""


AttemptEvent = Prepared | Started | Exited | Refused | NodeLost
TaskEvent = Placed | Due | DrainDue | CancelRequested | RetryRequested
Event = AttemptEvent | TaskEvent


@dataclass(frozen=True, slots=True)
class Record:
    """A line for the event log: a type such as `job.started`, and its details."""

    type: str
    data: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())


@dataclass(frozen=True, slots=True)
class LaunchCommand:
    """Order to a node: run this attempt."""

    attempt_id: AttemptId
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class StopCommand:
    """Order to a node: end this attempt, for this cause."""

    attempt_id: AttemptId
    node_id: NodeId
    cause: Cause
    message: str


Command = LaunchCommand | StopCommand


@dataclass(frozen=True, slots=True)
class Ignored:
    """The event changes nothing, and why: late, doubled or out of order."""

    reason: str
