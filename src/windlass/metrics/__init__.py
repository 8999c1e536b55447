"""What each process counts, for Prometheus: here what every role has, in the modules beside it what only some have.

Every metric is made in this package, so that names and labels are seen at once. Label values are closed sets, or one
per node: the number of series never grows with jobs, attempts, users or time. No label is called `job` or `instance`:
those are Prometheus' own.
"""

import platform

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, REGISTRY

from windlass import __version__
from windlass.metrics.catalogue import ROLES, WORKER, counter, gauge

# Nine series per process that nobody looks at, on each of a hundred nodes; which Python it is, the build says.
for _collector in (GC_COLLECTOR, PLATFORM_COLLECTOR):
    REGISTRY.unregister(_collector)

#: Every kind of repair.
MISSING_LAUNCH, UNKNOWN_ATTEMPT, UNREPORTED_END, OUTBOX_STUCK, POISON_ENTRY, POISON_TASK, PROCESS_GONE = KINDS = (
    "missing_launch",
    "unknown_attempt",
    "unreported_end",
    "outbox_stuck",
    "poison_entry",
    "poison_task",
    "process_gone",
)

BUILD = gauge(
    "windlass_build_info",
    "1, with the version, the Python and the role of this process.",
    ROLES,
    {"version": "one per process", "python": "one per process", "role": ROLES},
)
REDIS_DEGRADED = gauge(
    "windlass_redis_degraded", "1 while Redis does not serve this process and polls stand in.", ROLES
)
REPAIRS = counter(
    "windlass_repairs_total",
    "What the sweep found out of step, by kind, and put right.",
    ROLES,
    {"kind": KINDS},
    begun=False,
)


def built(role: str) -> None:
    """Say what this process is, and begin what it may count."""
    BUILD.labels(__version__, platform.python_version(), role).set(1)
    for kind in (POISON_ENTRY, PROCESS_GONE) if role == WORKER else KINDS:
        REPAIRS.labels(kind)
