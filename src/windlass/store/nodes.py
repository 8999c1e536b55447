"""Nodes, and what their live attempts reserve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from windlass.core.ids import NodeId
from windlass.core.placement.snapshot import Node, Room
from windlass.core.states import Driver, NodeState
from windlass.store import fence
from windlass.store.db import Conn

#: Registers a node or renews what it says of itself; never touches `cordoned`. Only under the leader's term.
UPSERT = f"""
WITH {fence.FENCE}, written AS (
INSERT INTO nodes (id, name, state, drivers, millis, memory, version, labels, facts)
SELECT %(id)s, %(name)s, %(state)s, %(drivers)s, %(millis)s, %(memory)s, %(version)s, %(labels)s, %(facts)s
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, drivers = excluded.drivers,
    millis = excluded.millis, memory = excluded.memory, version = excluded.version, labels = excluded.labels,
    facts = excluded.facts, heartbeat_at = now()
) SELECT (SELECT term FROM fence)
"""
#: Heartbeats of many nodes at once.
BEAT = f"""
WITH {fence.FENCE}, written AS (
    UPDATE nodes SET heartbeat_at = now() WHERE id = ANY(%(ids)s) AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
"""
SET_STATE = f"""
WITH {fence.FENCE}, written AS (
    UPDATE nodes SET state = %(state)s WHERE id = %(id)s AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
"""
ALL = """
SELECT n.id, n.name, n.state, n.cordoned, n.drivers, n.millis, n.memory, n.version, n.labels, n.facts,
    n.registered_at, n.heartbeat_at, coalesce(u.millis, 0), coalesce(u.memory, 0), coalesce(u.attempts, 0)
FROM nodes n LEFT JOIN (
    SELECT a.node_id, sum(s.millis)::bigint AS millis, sum(s.memory)::bigint AS memory, count(*) AS attempts
    FROM attempts a JOIN shapes s ON s.id = a.shape
    WHERE a.state IN ('placed', 'preparing', 'running', 'stopping') GROUP BY a.node_id
) u ON u.node_id = n.id
ORDER BY n.name, n.id
"""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node with its bookkeeping. `node.used` is summed over live attempts at the moment of reading."""

    node: Node
    version: str
    labels: Mapping[str, str]
    facts: Mapping[str, Any]
    registered_at: datetime
    heartbeat_at: datetime
    attempts: int


async def every(conn: Conn) -> list[NodeRow]:
    """All nodes by name."""
    return [_row(row) for row in await (await conn.execute(ALL)).fetchall()]


def _row(row: Sequence[Any]) -> NodeRow:
    nid, name, state, cordoned, drivers, millis, memory, version, labels, facts, born, beat, used_m, used_b, n = row
    node = Node(
        NodeId(nid),
        name,
        NodeState(state),
        cordoned,
        frozenset(Driver(d) for d in drivers),
        Room(millis, memory),
        Room(int(used_m), int(used_b)),
    )
    return NodeRow(node, version, labels, facts, born, beat, n)


async def upsert(
    conn: Conn, node: Node, *, version: str, labels: Mapping[str, str], facts: Mapping[str, Any], term: int
) -> None:
    """Write what a node says of itself. Raises Fenced, as all writes here."""
    values = {
        "id": node.id,
        "name": node.name,
        "state": node.state,
        "drivers": sorted(node.drivers),
        "millis": node.capacity.millis,
        "memory": node.capacity.memory,
        "version": version,
        "labels": Jsonb(dict(labels)),
        "facts": Jsonb(dict(facts)),
    }
    await fence.write(conn, UPSERT, values, term)


async def beat(conn: Conn, ids: Sequence[NodeId], *, term: int) -> None:
    """Record that these nodes were heard."""
    await fence.write(conn, BEAT, {"ids": list(ids)}, term)


async def set_state(conn: Conn, node_id: NodeId, state: NodeState, *, term: int) -> None:
    """Record what the leader thinks of a node."""
    await fence.write(conn, SET_STATE, {"id": node_id, "state": state}, term)
