"""What this process counts, for Prometheus. Every metric is made here, so that names and labels are seen at once.

Label values are closed sets: a metric's size never grows with jobs, attempts or time.
"""

from prometheus_client import Counter, Gauge

FENCED_WRITES = Counter(
    "windlass_fenced_writes_total", "Writes of a leader whose term was over: nothing of them was kept."
)
REPAIRS = Counter("windlass_repairs_total", "What the sweep found out of step, by kind, and put right.", ["kind"])
REDIS_DEGRADED = Gauge("windlass_redis_degraded", "1 while Redis does not serve this process and polls stand in.")
TERM = Gauge("windlass_leader_term", "The term this process leads in; 0 while it does not lead.")

#: Every kind of repair.
MISSING_LAUNCH, UNKNOWN_ATTEMPT, UNREPORTED_END, OUTBOX_STUCK, POISON_ENTRY = KINDS = (
    "missing_launch",
    "unknown_attempt",
    "unreported_end",
    "outbox_stuck",
    "poison_entry",
)
for _kind in KINDS:  # so that a rate is 0 and not absent before the first
    REPAIRS.labels(kind=_kind)
