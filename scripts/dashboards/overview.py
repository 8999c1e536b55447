"""Overview: is it well, and if not, where to look."""

from scripts.dashboards.panels import RATE, Board, Panel, Query, quantiles

BOARD = Board(
    "overview",
    "Overview",
    "Is it well, and if not, where to look.",
    {
        "Now": [
            Panel(
                "Leaders", [Query("count(windlass_leader == 1) or vector(0)")],
                "One scheduler leads. None: nothing is placed.", kind="stat", width=3, bad=1, falling=True,
            ),
            Panel(
                "Nodes ready", [Query('sum(windlass_nodes{state="ready"})')],
                "Nodes that take work.", kind="stat", width=3, bad=1, falling=True,
            ),
            Panel("Waiting", [Query("sum(windlass_queue_depth)")], "Tasks that wait for room.", kind="stat", width=3),
            Panel(
                "Oldest wait", [Query("max(windlass_queue_oldest_wait_seconds)")],
                "How long the first in line has waited.", "s", "stat", 3, warn=300, bad=900,
            ),
            Panel(
                "Running", [Query('sum(windlass_live_attempts{state=~"running|stopping"})')],
                "Attempts that run.", kind="stat", width=3,
            ),
            Panel(
                "Degraded",
                [
                    Query("max(windlass_postgres_degraded)", "PostgreSQL"),
                    Query("max(windlass_redis_degraded)", "Redis"),
                ],
                "1: some process is not served. Without PostgreSQL nothing is accepted; without Redis it is slower.",
                kind="stat", width=3, bad=1,
            ),
            Panel(
                "Roles that don't answer", [Query('count(up{job=~"windlass-.*"} == 0) or vector(0)')],
                "Processes Prometheus knows of and can't reach.", kind="stat", width=3, bad=1,
            ),
            Panel(
                "Alerts", [Query('count(ALERTS{alertname=~"Windlass.*", alertstate="firing"}) or vector(0)')],
                "Alerts that fire. Each has a runbook page.", kind="stat", width=3, bad=1,
            ),
        ],
        "Work": [
            Panel(
                "Jobs in and out",
                [
                    Query(f"sum(rate(windlass_jobs_submitted_total{RATE}))", "submitted"),
                    Query(f"sum by (state) (rate(windlass_jobs_finished_total{RATE}))", "{{state}}"),
                ],
                "Jobs a second.", "ops",
            ),
            Panel(
                "From submit to start", quantiles("windlass_submit_to_start_seconds", 0.5, 0.95, 0.99),
                "First attempts. What waits for room is part of it.", "s",
            ),
            Panel(
                "Reserved",
                [Query("windlass:cpu_used:ratio", "cpu"), Query("windlass:memory_used:ratio", "memory")],
                "Share of what the nodes have that live attempts reserve.", "percentunit", top=1,
            ),
        ],
        "Trouble": [
            Panel(
                "Attempts that ended by their node, image or start",
                [
                    Query(f'sum by (outcome, cause) (rate(windlass_attempts_total{{cause=~"{causes}"}}{RATE}))',
                          "{{outcome}} {{cause}}")
                    for causes in ("node_lost|rejected|image_pull|start_failed",)
                ],
                "No fault of the jobs.", "ops",
            ),
            Panel(
                "API: failed requests", [Query("windlass:api_errors:ratio5m", "5xx")],
                "Share of requests answered with 5xx.", "percentunit", warn=0.01, bad=0.05,
            ),
            Panel(
                "Repairs", [Query(f"sum by (kind) (rate(windlass_repairs_total{RATE}))", "{{kind}}")],
                "What was out of step between ledger, streams and nodes, and was put right.", "ops",
            ),
        ],
    },
)  # fmt: skip
