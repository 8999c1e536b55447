"""An API process: requests by route, output it keeps, its connections to PostgreSQL."""

from windlass.metrics.catalogue import API, Figures, counter, gauge, histogram

_ROLE = [API]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "OTHER")
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_ROUTE = {"method": METHODS, "route": "the routes' templates, and `none`"}

REQUESTS = counter(
    "windlass_api_requests_total", "Requests by route and class of status.", _ROLE, {**_ROUTE, "status": CLASSES}
)
SECONDS = histogram(
    "windlass_api_request_seconds",
    "Time to the response's first byte, by route; of a request that waits for a job, the wait is part of it.",
    _ROLE,
    (0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0),
    _ROUTE,
)
LOG_BYTES = counter(
    "windlass_log_bytes_total", "Bytes of jobs' output that came in.", _ROLE, {"stream": ("stdout", "stderr")}
)
LOG_MISSING = counter(
    "windlass_log_missing_bytes_total",
    "Bytes of jobs' output that are not kept: over the cap, or lost with a node.",
    _ROLE,
    {"stream": ("stdout", "stderr")},
)
LISTENERS = gauge("windlass_api_listeners", "Requests that wait for news of a job, its output, or events.", _ROLE)

POOL = Figures(_ROLE)
POOL_SIZE = POOL.gauge("windlass_postgres_pool_size", "Connections to PostgreSQL this process may have.")
POOL_USED = POOL.gauge("windlass_postgres_pool_used", "Connections that a request holds.")
POOL_TIMEOUTS = POOL.counter(
    "windlass_postgres_pool_timeouts_total", "Requests turned away since no connection became free in time."
)
