"""Jobs that come and go."""

from windlass.core.states import TERMINAL_TASK
from windlass.metrics.catalogue import API, SCHEDULER, counter

SUBMITTED = counter("windlass_jobs_submitted_total", "Jobs accepted: they are in the ledger.", [API])
FINISHED = counter(
    "windlass_jobs_finished_total",
    "Jobs over, by their last state. The API counts those that were cancelled while they waited.",
    [API, SCHEDULER],
    {"state": sorted(TERMINAL_TASK)},
)
