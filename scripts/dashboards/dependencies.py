"""Dependencies: PostgreSQL, Redis, the API, and the processes themselves."""

from scripts.dashboards.panels import RATE, Board, Panel, Query, quantiles

_ALL = 'job=~"windlass-.*"'

BOARD = Board(
    "dependencies",
    "Dependencies",
    "PostgreSQL, Redis, the API, and the processes themselves.",
    {
        "PostgreSQL": [
            Panel(
                "Does not serve", [Query("windlass_postgres_degraded", "{{job}} {{instance}}")],
                "1: this process has no PostgreSQL.", top=1, bad=1,
            ),
            Panel(
                "Connections of the API",
                [
                    Query("windlass_postgres_pool_used", "used {{instance}}"),
                    Query("windlass_postgres_pool_size", "may {{instance}}"),
                ],
                "Of database.pool_max.",
            ),
            Panel(
                "Turned away", [Query(f"rate(windlass_postgres_pool_timeouts_total{RATE})", "{{instance}}")],
                "Requests that got no connection in time.", "ops", bad=0.01,
            ),
            Panel("Time of a write", quantiles("windlass_ledger_write_seconds", 0.5, 0.99), "Of the leader.", "s"),
            Panel(
                "Time of a submit",
                [
                    Query(f"histogram_quantile({share}, sum by (le) (rate(windlass_api_request_seconds_bucket"
                          f'{{method="POST", route=~"/v1/jobs|/v1/jobs/batch"}}{RATE})))', name)
                    for share, name in ((0.5, "p50"), (0.99, "p99"))
                ],
                "To the first byte of the answer, which comes after the commit.", "s",
            ),
            Panel("Outbox", [Query("max(windlass_outbox_rows)", "rows")], "Orders committed and not cleared yet."),
        ],
        "Redis": [
            Panel(
                "Does not serve", [Query("windlass_redis_degraded", "{{job}} {{instance}}")],
                "1: polls stand in for this process.", top=1, bad=1,
            ),
            Panel(
                "Messages not dealt with", [Query("sum by (stream) (windlass_stream_entries)", "{{stream}}")],
                "On the leader's stream, and on all nodes'.",
            ),
            Panel(
                "Workers over HTTP", [Query("sum(windlass_worker_exchange)", "workers")],
                "The exchange stands in for the streams.",
            ),
        ],
        "API": [
            Panel(
                "Requests", [Query(f"sum by (route) (rate(windlass_api_requests_total{RATE}))", "{{route}}")],
                "By route.", "reqps", stacked=True,
            ),
            Panel(
                "Answers", [Query(f"sum by (status) (rate(windlass_api_requests_total{RATE}))", "{{status}}")],
                "By class of status.", "reqps", stacked=True,
            ),
            Panel(
                "Time to the first byte, 95 of 100",
                [Query("histogram_quantile(0.95, sum by (le, route) "
                       f"(rate(windlass_api_request_seconds_bucket{RATE})))", "{{route}}")],
                "By route. A request that waits for a job takes as long as the job.", "s",
            ),
            Panel(
                "Waiting for news", [Query("windlass_api_listeners", "{{instance}}")],
                "Jobs, output and events that requests wait for.",
            ),
            Panel(
                "Failed", [Query("windlass:api_errors:ratio5m", "5xx")],
                "Share of requests answered with 5xx.", "percentunit", warn=0.01, bad=0.05,
            ),
            Panel(
                "Output that comes in", [Query(f"sum(rate(windlass_log_bytes_total{RATE}))", "bytes")],
                "Of all jobs.", "Bps",
            ),
        ],
        "Processes": [
            Panel(
                "Processor", [Query(f"rate(process_cpu_seconds_total{{{_ALL}}}{RATE})", "{{job}} {{instance}}")],
                "Cores each uses.", width=6,
            ),
            Panel(
                "Memory", [Query(f"process_resident_memory_bytes{{{_ALL}}}", "{{job}} {{instance}}")],
                "Resident.", "bytes", width=6,
            ),
            Panel(
                "Open files",
                [Query(f"process_open_fds{{{_ALL}}} / process_max_fds{{{_ALL}}}", "{{job}} {{instance}}")],
                "Share of the limit.", "percentunit", width=6, top=1, warn=0.7, bad=0.9,
            ),
            Panel(
                "Versions", [Query("count by (role, version) (windlass_build_info)", "{{role}} {{version}}")],
                "More than one only while an upgrade is under way.", width=6,
            ),
        ],
    },
)  # fmt: skip
