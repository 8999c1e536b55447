"""Scheduler: who leads, how quick and how sound placement is."""

from scripts.dashboards.panels import RATE, Board, Panel, Query, quantiles

_HERE = 'job="windlass-scheduler"'

BOARD = Board(
    "scheduler",
    "Scheduler",
    "Who leads, how quick and how sound placement is.",
    {
        "Leadership": [
            Panel("Who leads", [Query("windlass_leader", "{{instance}}")], "1: this one.", width=6, top=1),
            Panel("Term", [Query("max(windlass_leader_term)", "term")], "One more with each takeover.", width=6),
            Panel(
                "Takeovers in an hour", [Query("sum(increase(windlass_leader_terms_total[1h]))", "takeovers")],
                "Some around an upgrade; none otherwise.", width=6,
            ),
            Panel(
                "Age of the lease", [Query("max(windlass_lease_age_seconds)", "age")],
                "Renewed each second; it lapses after scheduler.lease_ttl_s.", "s", width=6, warn=2, bad=3,
            ),
        ],
        "Placement": [
            Panel(
                "Placed", [Query(f"sum(rate(windlass_placement_batch_size_sum{RATE}))", "tasks")],
                "Tasks placed a second.", "ops",
            ),
            Panel(
                "Time of a plan", quantiles("windlass_plan_seconds", 0.5, 0.99),
                "The decision alone, with no read and no write.", "s",
            ),
            Panel(
                "Time of a round", quantiles("windlass_placement_seconds", 0.5, 0.99),
                "Heads read, planned, committed.", "s",
            ),
            Panel(
                "Tasks of a round", quantiles("windlass_placement_batch_size", 0.5, 0.99),
                "One write places them all: large ones mean pressure, not trouble.",
            ),
            Panel(
                "Time of a write", quantiles("windlass_ledger_write_seconds", 0.5, 0.99),
                "Of steps, their commit included: PostgreSQL as the leader feels it.", "s",
            ),
            Panel(
                "Time of a renewal",
                [Query(f"sum(rate(windlass_lease_renewal_seconds_sum{RATE})) / "
                       f"sum(rate(windlass_lease_renewal_seconds_count{RATE}))", "mean")],
                "Of the lease. Long ones come before lost leases.", "s",
            ),
            Panel(
                "Age of the count", [Query("max(windlass_queue_count_age_seconds)", "age")],
                "How old the figures of what waits are.", "s",
            ),
        ],
        "Soundness": [
            Panel(
                "Messages not dealt with", [Query("sum by (stream) (windlass_stream_entries)", "{{stream}}")],
                "On the leader's stream, and on all nodes'.",
            ),
            Panel(
                "Age of the oldest of them", [Query("max by (stream) (windlass_stream_lag_seconds)", "{{stream}}")],
                "Near 0 while everyone reads.", "s", warn=2, bad=10,
            ),
            Panel(
                "Outbox and inbox",
                [Query("max(windlass_outbox_rows)", "outbox"), Query("max(windlass_inbox_rows)", "inbox")],
                "Orders committed; exchanges that came over HTTP. Counted up to 10,000.",
            ),
            Panel(
                "Repairs", [Query(f"sum by (kind) (rate(windlass_repairs_total{RATE}))", "{{kind}}")],
                "What the sweep put right.", "ops",
            ),
            Panel(
                "Fenced writes", [Query("sum(windlass_fenced_writes_total)", "fenced")],
                "Writes of former leaders; nothing of them was kept.",
            ),
            Panel(
                "Processor and memory",
                [
                    Query(f"rate(process_cpu_seconds_total{{{_HERE}}}{RATE})", "cores {{instance}}"),
                    Query(f"process_resident_memory_bytes{{{_HERE}}} / 1073741824", "GiB {{instance}}"),
                ],
                "Of each scheduler. One core is all a process can use.",
            ),
        ],
    },
)  # fmt: skip
