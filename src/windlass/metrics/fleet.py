"""What the leader knows of the whole cluster: what waits, and the nodes. Only the one that leads tells of it, so that
nothing is told twice."""

from windlass.core.states import Driver
from windlass.metrics.catalogue import SCHEDULER, Figures

#: How a node counts: the first of these that is true of it.
NODE_STATES = ("lost", "suspect", "leaving", "draining", "cordoned", "ready")
STREAMS = ("leader", "nodes")
LIVE_STATES = ("placed", "preparing", "running", "stopping")

FIGURES = Figures([SCHEDULER])

_NODE = {"node": "one per node"}
QUEUE_DEPTH = FIGURES.gauge("windlass_queue_depth", "Tasks that wait for a node with room.", {"driver": list(Driver)})
OLDEST_WAIT = FIGURES.gauge(
    "windlass_queue_oldest_wait_seconds", "How long the one that has waited longest has; 0 while nothing waits."
)
COUNT_AGE = FIGURES.gauge(
    "windlass_queue_count_age_seconds", "Since what waits was counted: a deep line is counted less often."
)
NEEDED_WORKERS = FIGURES.gauge(
    "windlass_scaling_needed_workers", "Workers that all that waits and runs needs, as GET /v1/scaling says."
)
LIVE = FIGURES.gauge("windlass_live_attempts", "Attempts that are not over, by state.", {"state": LIVE_STATES})
NODES = FIGURES.gauge("windlass_nodes", "Nodes, each in one state.", {"state": NODE_STATES})

NODE_UP = FIGURES.gauge("windlass_node_up", "1 while the node is heard: neither suspect nor lost.", _NODE)
NODE_SILENCE = FIGURES.gauge("windlass_node_silence_seconds", "Since the node was last heard.", _NODE)
NODE_ATTEMPTS = FIGURES.gauge("windlass_node_attempts", "Live attempts on the node.", _NODE)
NODE_CPU = FIGURES.gauge("windlass_node_cpu_capacity_cores", "Cores the node has to give away.", _NODE)
NODE_CPU_USED = FIGURES.gauge("windlass_node_cpu_used_cores", "Cores its live attempts reserve.", _NODE)
NODE_MEMORY = FIGURES.gauge("windlass_node_memory_capacity_bytes", "Memory the node has to give away.", _NODE)
NODE_MEMORY_USED = FIGURES.gauge("windlass_node_memory_used_bytes", "Memory its live attempts reserve.", _NODE)

STREAM_ENTRIES = FIGURES.gauge(
    "windlass_stream_entries", "Entries nobody has dealt with: to the leader, and to all nodes.", {"stream": STREAMS}
)
STREAM_LAG = FIGURES.gauge(
    "windlass_stream_lag_seconds", "Age of the oldest of those; 0 without any.", {"stream": STREAMS}
)
OUTBOX = FIGURES.gauge("windlass_outbox_rows", "Rows of orders in the outbox, sent or not; counted up to 10,000.")
INBOX = FIGURES.gauge("windlass_inbox_rows", "Exchanges the leader has not dealt with; counted up to 10,000.")
