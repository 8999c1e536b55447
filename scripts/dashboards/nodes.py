"""Nodes: what each has, gives and holds."""

from scripts.dashboards.panels import RATE, Board, Panel, Query

_ONE = '{node=~"$node"}'

BOARD = Board(
    "nodes",
    "Nodes",
    "What each node has, gives and holds.",
    {
        "All": [
            Panel(
                "Nodes by state", [Query("sum by (state) (windlass_nodes)", "{{state}}")],
                "Each in one state.", stacked=True,
            ),
            Panel(
                "Cores",
                [
                    Query("sum(windlass_node_cpu_capacity_cores)", "there are"),
                    Query("sum(windlass_node_cpu_used_cores)", "reserved"),
                ],
                "Of all nodes.",
            ),
            Panel(
                "Memory",
                [
                    Query("sum(windlass_node_memory_capacity_bytes)", "there is"),
                    Query("sum(windlass_node_memory_used_bytes)", "reserved"),
                ],
                "Of all nodes.", "bytes",
            ),
        ],
        "Each": [
            Panel(
                "Cores reserved",
                [Query(f"windlass_node_cpu_used_cores{_ONE} / windlass_node_cpu_capacity_cores{_ONE}", "{{node}}")],
                "Share of the node's.", "percentunit", "bars", top=1, warn=0.8, bad=0.95,
            ),
            Panel(
                "Memory reserved",
                [Query(f"windlass_node_memory_used_bytes{_ONE} / windlass_node_memory_capacity_bytes{_ONE}",
                       "{{node}}")],
                "Share of the node's.", "percentunit", "bars", top=1, warn=0.8, bad=0.95,
            ),
            Panel("Live attempts", [Query(f"windlass_node_attempts{_ONE}", "{{node}}")], "On the node.", kind="bars"),
            Panel(
                "Heard", [Query(f"windlass_node_silence_seconds{_ONE}", "{{node}}")],
                "Since its last word: suspect after 6 s, lost after 15 s.", "s", warn=6, bad=15,
            ),
            Panel("Up", [Query(f"windlass_node_up{_ONE}", "{{node}}")], "0: suspect or lost.", top=1),
            Panel("Attempts", [Query(f"windlass_node_attempts{_ONE}", "{{node}}")], "Over time.", stacked=True),
        ],
        "Workers, as they see themselves": [
            Panel(
                "Time to start",
                [Query(f"rate(windlass_worker_start_seconds_sum{RATE}) / "
                       f"(rate(windlass_worker_start_seconds_count{RATE}) > 0) or "
                       f"windlass_worker_start_seconds_sum / windlass_worker_start_seconds_count", "{{instance}}")],
                "Mean, from the launch coming in: pull, create, start.", "s",
            ),
            Panel(
                "Image pulls",
                [
                    Query(f"sum(rate(windlass_worker_image_pull_seconds_count{RATE}))", "ended"),
                    Query(f"sum(rate(windlass_worker_image_pull_failures_total{RATE}))", "failed"),
                ],
                "Pulls that ended, of all workers.", "ops",
            ),
            Panel(
                "Time of a pull",
                [Query(f"sum(rate(windlass_worker_image_pull_seconds_sum{RATE})) / "
                       f"(sum(rate(windlass_worker_image_pull_seconds_count{RATE})) > 0) or vector(0)", "mean")],
                "Mean, of all workers; 0 while nothing is pulled.", "s",
            ),
            Panel(
                "Drivers", [Query("windlass_worker_driver_available", "{{driver}} {{instance}}")],
                "0: it can start nothing.", top=1,
            ),
            Panel(
                "Disk free", [Query("windlass_worker_disk_free_bytes / windlass_worker_disk_size_bytes",
                                    "{{instance}}")],
                "Of worker.data. Without room no attempt begins.", "percentunit", top=1, bad=0.05, falling=True,
            ),
            Panel(
                "Contact", [Query("windlass_worker_contact_age_seconds", "{{instance}}")],
                "Since the last word with Redis or the API; at 12 s the watchdog ends what runs.", "s", warn=6, bad=12,
            ),
            Panel(
                "Over HTTP instead of streams", [Query("windlass_worker_exchange", "{{instance}}")],
                "1: the exchange stands in.", top=1,
            ),
            Panel(
                "Ends not confirmed", [Query("windlass_worker_unconfirmed_ends", "{{instance}}")],
                "Attempts that ended there and the ledger has not said so.",
            ),
            Panel(
                "Output", [Query(f"rate(windlass_worker_log_bytes_total{RATE})", "{{instance}}")],
                "Bytes the API took from it.", "Bps",
            ),
            Panel(
                "Output that waits", [Query("windlass_worker_log_waiting_bytes", "{{instance}}")],
                "For the API; at 4 MiB jobs' output is read no further.", "bytes", warn=1048576, bad=4194304,
            ),
            Panel(
                "Memory", [Query('process_resident_memory_bytes{job="windlass-worker"}', "{{instance}}")],
                "Of the agent itself.", "bytes",
            ),
        ],
    },
    nodes=True,
)  # fmt: skip
