"""A scheduler: its leadership, what it places, and how attempts end. Only the one that leads counts anything here."""

from windlass.core.states import TERMINAL_ATTEMPT, AttemptState, Cause, TaskState
from windlass.core.task import Step
from windlass.metrics.catalogue import LONG_S, SCHEDULER, SHORT_S, counter, gauge, histogram, summary
from windlass.metrics.jobs import FINISHED

_ROLE = [SCHEDULER]

LEADER = gauge("windlass_leader", "1 while this scheduler leads.", _ROLE)
TERM = gauge("windlass_leader_term", "The term this process leads in; 0 while it does not lead.", _ROLE)
TERMS = counter("windlass_leader_terms_total", "Leaderships that this process began.", _ROLE)
LEASE_AGE = gauge(
    "windlass_lease_age_seconds", "Since the leader's last renewal was sent; 0 while it does not lead.", _ROLE
)
RENEWAL = summary("windlass_lease_renewal_seconds", "Time a renewal of the lease took.", _ROLE)
FENCED_WRITES = counter(
    "windlass_fenced_writes_total", "Writes of a leader whose term was over: nothing of them was kept.", _ROLE
)
LEDGER_WRITE = histogram(
    "windlass_ledger_write_seconds", "Time of one write of steps, its commit included.", _ROLE, SHORT_S
)

PLACEMENT = histogram(
    "windlass_placement_seconds",
    "Time of one round that placed something: heads read, planned, committed.",
    _ROLE,
    SHORT_S,
)
PLAN = histogram(
    "windlass_plan_seconds", "Time of one plan: the decision alone, with no read and no write.", _ROLE, SHORT_S
)
BATCH_SIZE = histogram(
    "windlass_placement_batch_size", "Tasks placed by one round.", _ROLE, (1, 2, 4, 8, 16, 32, 64, 128, 256)
)
QUEUE_WAIT = histogram("windlass_queue_wait_seconds", "From queued to placed, each attempt for itself.", _ROLE, LONG_S)
SUBMIT_TO_START = histogram(
    "windlass_submit_to_start_seconds",
    "From the moment a job could be placed (its submit, or not_before) to the start of its first attempt.",
    _ROLE,
    LONG_S,
)
START_TO_FINISH = histogram(
    "windlass_start_to_finish_seconds", "How long attempts ran that had started, however they ended.", _ROLE, LONG_S
)
ATTEMPTS = counter(
    "windlass_attempts_total",
    "Attempts over, by outcome and cause; of a success the cause is `none`.",
    _ROLE,
    {"outcome": sorted(TERMINAL_ATTEMPT), "cause": "what can go with the outcome"},
)
#: What goes together; any other pair is counted too, should there be one.
_ENDS = [
    (AttemptState.SUCCEEDED, None),
    (AttemptState.CANCELLED, Cause.CANCELLED),
    (AttemptState.CANCELLED, Cause.DRAINED),
    (AttemptState.LOST, Cause.NODE_LOST),
    (AttemptState.REJECTED, Cause.REJECTED),
]
_ELSEWHERE = {cause for _, cause in _ENDS}
_FAILURES = [(AttemptState.FAILED, cause) for cause in Cause if cause not in _ELSEWHERE]
_attempts = {(state, cause): ATTEMPTS.labels(state, cause or "none") for state, cause in _ENDS + _FAILURES}
_finished = {state: FINISHED.labels(state) for state in ("succeeded", "failed", "cancelled")}


def count(step: Step) -> None:
    """Count a step that was written. Moments are the database's: a wait that its clock makes negative is 0."""
    task, attempt = step.task, step.attempt
    if task.state.terminal:
        _finished[task.state].inc()
    if attempt is None:
        return
    if step.commands and attempt.state is AttemptState.PLACED:
        QUEUE_WAIT.observe(max(0.0, attempt.placed_at - task.queued_at))
    if attempt.started_at is not None and attempt.number == 1 and _starts(step):
        SUBMIT_TO_START.observe(max(0.0, attempt.started_at - task.queued_at))
    if attempt.state.terminal:
        ended = _attempts.get((attempt.state, attempt.cause))
        (ended or ATTEMPTS.labels(attempt.state, attempt.cause or "none")).inc()
        if attempt.started_at is not None and attempt.finished_at is not None:
            START_TO_FINISH.observe(max(0.0, attempt.finished_at - attempt.started_at))


def _starts(step: Step) -> bool:
    """Whether it started with this step, and its task still tells since when it had been queued."""
    return step.task.state is not TaskState.QUEUED and any(record.type == "job.started" for record in step.records)
