"""PostgreSQL, as a process that needs it sees it."""

from windlass.metrics.catalogue import API, SCHEDULER, gauge

DEGRADED = gauge("windlass_postgres_degraded", "1 while PostgreSQL does not serve this process.", [API, SCHEDULER])
