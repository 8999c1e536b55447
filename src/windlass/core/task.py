"""A task, one unit of a job's work, as the ledger knows it; and when its next time limit falls."""

from collections.abc import Iterator
from dataclasses import dataclass

from windlass.core.events import Command, LaunchCommand, Record
from windlass.core.ids import AttemptId, JobId, NodeId, TaskId
from windlass.core.spec import JobSpec
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.core.trace import TraceContext

#: Seconds the scheduler leaves a worker to enforce a limit itself before it steps in.
ENFORCE_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Task:
    """One row of the ledger; `version` counts its writes. Moments are database seconds."""

    id: TaskId
    job_id: JobId
    spec: JobSpec
    shape: int
    state: TaskState
    version: int
    created_at: float
    queued_at: float
    attempts: int = 0
    retries: int = 0
    infra_losses: int = 0
    #: of these, how many took their node along while the task ran there
    node_losses: int = 0
    #: attempts that a node sent back: refused, or stopped when nobody had asked for it
    refusals: int = 0
    cancel_requested: bool = False
    not_before: float | None = None
    finished_at: float | None = None
    reason: str | None = None
    #: the place in a trace its job was submitted from
    trace: TraceContext | None = None

    @property
    def deadline_at(self) -> float | None:
        return None if self.spec.job_deadline is None else self.created_at + self.spec.job_deadline


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try on one node. One-shot: its state never moves backward."""

    id: AttemptId
    number: int
    node_id: NodeId
    node_name: str
    fence: int
    state: AttemptState
    placed_at: float
    started_at: float | None = None
    finished_at: float | None = None
    stop_cause: Cause | None = None
    stop_sent_at: float | None = None
    cause: Cause | None = None
    exit_code: int | None = None
    message: str = ""
    #: what its node said of its end after that was recorded; changed nothing
    late: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one or more events: rows as they shall be, records, commands. `base` is the version it read."""

    base: int
    task: Task
    attempt: Attempt | None
    records: tuple[Record, ...] = ()
    commands: tuple[Command, ...] = ()

    @property
    def places(self) -> bool:
        """Whether it gives the task to a node."""
        return any(isinstance(command, LaunchCommand) for command in self.commands)


def wake_at(task: Task, attempt: Attempt | None) -> float | None:
    """The next moment at which a limit of this task falls due, if any."""
    return min(_limits(task, attempt), default=None)


def _limits(task: Task, attempt: Attempt | None) -> Iterator[float]:
    if task.state.terminal:
        return
    spec, deadline = task.spec, task.deadline_at
    live = task.state is TaskState.ACTIVE
    if deadline is not None and not (attempt and attempt.state is AttemptState.STOPPING):
        yield deadline + (ENFORCE_MARGIN_S if live else 0)
    if task.state is TaskState.QUEUED and spec.queue_timeout is not None:
        yield task.queued_at + spec.queue_timeout
    if task.state is TaskState.BACKOFF and task.not_before is not None:
        yield task.not_before
    if live and attempt is not None:
        match attempt.state:
            case AttemptState.PLACED | AttemptState.PREPARING:
                yield attempt.placed_at + spec.start_timeout + ENFORCE_MARGIN_S
            case AttemptState.RUNNING if spec.attempt_timeout is not None and attempt.started_at is not None:
                yield attempt.started_at + spec.attempt_timeout + ENFORCE_MARGIN_S
            case AttemptState.STOPPING if attempt.stop_sent_at is not None:
                yield attempt.stop_sent_at + spec.stop_grace + ENFORCE_MARGIN_S
            case _:
                pass
