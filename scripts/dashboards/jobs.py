"""Jobs and queues: what waits, for how long, how it ends."""

from scripts.dashboards.panels import RATE, Board, Panel, Query, quantiles

BOARD = Board(
    "jobs",
    "Jobs and queues",
    "What waits, for how long, how it ends.",
    {
        "Waiting": [
            Panel(
                "Waiting tasks", [Query("sum by (driver) (windlass_queue_depth)", "{{driver}}")],
                "By the driver they need. A deep line is counted less often.", stacked=True,
            ),
            Panel(
                "Oldest wait", [Query("max(windlass_queue_oldest_wait_seconds)", "oldest")],
                "Of the first of each shape and priority.", "s", warn=300, bad=900,
            ),
            Panel(
                "Workers needed and there",
                [
                    Query("max(windlass_scaling_needed_workers)", "needed"),
                    Query('sum(windlass_nodes{state="ready"})', "ready"),
                ],
                "As many as would hold all that waits and runs at once, each as big as the smallest.",
            ),
            Panel(
                "Queued to placed", quantiles("windlass_queue_wait_seconds", 0.5, 0.95, 0.99),
                "Each attempt for itself.", "s",
            ),
            Panel(
                "Submit to start", quantiles("windlass_submit_to_start_seconds", 0.5, 0.95, 0.99),
                "First attempts; the image's pull is part of it.", "s",
            ),
            Panel(
                "Start to finish", quantiles("windlass_start_to_finish_seconds", 0.5, 0.95, 0.99),
                "How long attempts run.", "s",
            ),
        ],
        "Running and ending": [
            Panel(
                "Live attempts", [Query("sum by (state) (windlass_live_attempts)", "{{state}}")],
                "Placed and preparing ones have not started yet.", stacked=True,
            ),
            Panel(
                "Attempts that ended",
                [Query(f"sum by (outcome, cause) (rate(windlass_attempts_total{RATE})) > 0 or "
                       f"sum by (outcome) (rate(windlass_attempts_total{RATE}))", "{{outcome}} {{cause}}")],
                "Attempts a second, by outcome and cause.", "ops", stacked=True,
            ),
            Panel(
                "Jobs submitted and finished",
                [
                    Query("windlass:jobs_submitted:rate5m", "submitted"),
                    Query("windlass:jobs_finished:rate5m", "{{state}}"),
                ],
                "Over five minutes. When the first is above the others for long, lines grow.", "ops",
            ),
        ],
        "Output": [
            Panel(
                "Output", [Query(f"sum by (stream) (rate(windlass_log_bytes_total{RATE}))", "{{stream}}")],
                "Bytes of jobs' output that come in.", "Bps", width=12,
            ),
            Panel(
                "Output not kept",
                [Query(f"sum by (stream) (rate(windlass_log_missing_bytes_total{RATE}))", "{{stream}}")],
                "Over the cap of a stream, or lost with a node.", "Bps", width=12,
            ),
        ],
    },
)  # fmt: skip
