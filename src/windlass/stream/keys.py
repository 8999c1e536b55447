"""Every key Windlass uses in Redis or Valkey.

| key | type | what |
|---|---|---|
| `{cluster}:leader` | stream, group `leader` | reports of workers and bells of the API, for whoever leads |
| `{cluster}:node:{node_id}` | stream, group `worker` | commands to one node |
| `{cluster}:news` | stream, no group, capped | hints for API processes: jobs that ended, new output, events |

Every entry has one field `m`: a JSON list of messages (wire.py). All of it may vanish at any time.
"""

from dataclasses import dataclass

from windlass.core.ids import NodeId

LEADER_GROUP = "leader"
WORKER_GROUP = "worker"
#: One name for whoever leads: a new leader inherits what the last one had read and not yet committed.
CONSUMER = "0"
FIELD = b"m"
NEWS_LENGTH = 4096
#: Entries kept at most where nobody reads; what is cut off is repaired by the sweep.
BACKLOG_LENGTH = 200_000
#: Seconds after its last command that a node's stream is kept: what a node that is gone left behind goes by itself.
NODE_TTL_S = 3600


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one cluster."""

    cluster: str

    @property
    def leader(self) -> str:
        return f"{self.cluster}:leader"

    @property
    def news(self) -> str:
        return f"{self.cluster}:news"

    def node(self, node_id: NodeId) -> str:
        return f"{self.cluster}:node:{node_id}"

    def user(self, node_id: NodeId) -> str:
        """The name of a node's own user in Redis."""
        return self.node(node_id)

    def is_node(self, key: str) -> bool:
        """Whether this is the key of some node's commands."""
        return key.startswith(self.node(NodeId("")))
