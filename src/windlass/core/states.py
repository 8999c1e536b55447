"""The closed sets of words: states of tasks, attempts, jobs and nodes, and the causes an attempt can end with."""

from enum import StrEnum


class TaskState(StrEnum):
    HELD = "held"
    BLOCKED = "blocked"
    QUEUED = "queued"
    ACTIVE = "active"  # one attempt is live
    BACKOFF = "backoff"  # waiting for the delay before the next attempt
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL_TASK


class AttemptState(StrEnum):
    PLACED = "placed"  # assigned to a node and launched towards it
    PREPARING = "preparing"  # the node has it: pulling, creating
    RUNNING = "running"
    STOPPING = "stopping"  # told to stop; not yet proven gone
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # its node's lease lapsed without an exit
    REJECTED = "rejected"  # the node refused it

    @property
    def terminal(self) -> bool:
        return self in TERMINAL_ATTEMPT


class JobState(StrEnum):
    HELD = "held"
    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NodeState(StrEnum):
    READY = "ready"
    SUSPECT = "suspect"  # heartbeats are late: nothing new is placed there
    LOST = "lost"  # its lease lapsed: its attempts are replaced


class Cause(StrEnum):
    """Why an attempt did not succeed."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OOM = "oom"
    TIMEOUT = "timeout"
    IMAGE_PULL = "image_pull"
    START_FAILED = "start_failed"
    NODE_LOST = "node_lost"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    DRAINED = "drained"  # its node was drained: it costs the task nothing


class Driver(StrEnum):
    DOCKER = "docker"
    PROCESS = "process"
    KUBERNETES = "kubernetes"
    MOCK = "mock"


TERMINAL_TASK = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})
TERMINAL_ATTEMPT = frozenset(
    {
        AttemptState.SUCCEEDED,
        AttemptState.FAILED,
        AttemptState.CANCELLED,
        AttemptState.LOST,
        AttemptState.REJECTED,
    }
)

_ROLL_UP: dict[str, JobState] = {
    TaskState.ACTIVE: JobState.RUNNING,
    TaskState.BACKOFF: JobState.QUEUED,
}


def job_state(task: str) -> str:
    """The state users see for a plain job, from the state of its one task; one this version does not know stays."""
    return _ROLL_UP.get(task) or (JobState(task) if task in set(JobState) else task)


def task_states(job: JobState) -> list[TaskState]:
    """The task states a job state stands for: the inverse of job_state."""
    return [task for task in TaskState if job_state(task) == job]


def node_state(word: str) -> NodeState:
    """A node's state as it is written; of one this version does not know it makes that nothing is placed there."""
    return NodeState(word) if word in set(NodeState) else NodeState.SUSPECT
