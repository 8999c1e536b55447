"""Nodes, and what their live attempts reserve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from windlass.core.ids import NodeId, TaskId
from windlass.core.placement.snapshot import Node, Room
from windlass.core.states import Driver, NodeState, node_state
from windlass.store import fence
from windlass.store.db import Conn

#: Registers a node or renews what it says of itself; never touches what an operator asked of it. Only under the
#: leader's term.
UPSERT = f"""
WITH {fence.FENCE}, written AS (
INSERT INTO nodes (id, name, state, drivers, millis, memory, version, labels, facts, leaving)
SELECT %(id)s, %(name)s, %(state)s, %(drivers)s, %(millis)s, %(memory)s, %(version)s, %(labels)s, %(facts)s,
    %(leaving)s
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, drivers = excluded.drivers,
    millis = excluded.millis, memory = excluded.memory, version = excluded.version, labels = excluded.labels,
    facts = excluded.facts, leaving = excluded.leaving, heartbeat_at = now()
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
#: What operators want of nodes: by anyone, at any time; the leader looks each second, and when a bell rings.
CORDON = """
UPDATE nodes SET cordoned = true WHERE id = %(id)s
"""
UNCORDON = """
UPDATE nodes SET cordoned = false, draining = false, drain_until = NULL WHERE id = %(id)s
"""
DRAIN = """
UPDATE nodes SET cordoned = true, draining = true, drain_until = now() + %(within)s::float8 * interval '1 second'
WHERE id = %(id)s
"""
#: Only one that is lost: a node that lives would register again at once.
FORGET = "DELETE FROM nodes WHERE id = %(id)s AND state = 'lost' RETURNING id"
WANTED = "SELECT id, cordoned, draining, draining AND drain_until <= now() FROM nodes"
#: The lost node an attempt of this task is still on record as running on.
STRANDED = """
SELECT n.name FROM attempts a JOIN nodes n ON n.id = a.node_id WHERE a.task_id = %(task)s
    AND a.state IN ('placed', 'preparing', 'running', 'stopping') AND n.state = 'lost'
"""
STATE_OF = "SELECT state FROM nodes WHERE id = %(id)s"
ALL = """
SELECT n.id, n.name, n.state, n.cordoned, n.drivers, n.millis, n.memory, n.version, n.labels, n.facts,
    n.registered_at, n.heartbeat_at, n.draining, n.drain_until, n.leaving,
    coalesce(u.millis, 0), coalesce(u.memory, 0), coalesce(u.attempts, 0)
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
    drain_until: datetime | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants of a node. `due`: its drain's deadline has passed."""

    cordoned: bool
    draining: bool
    due: bool


async def every(conn: Conn) -> list[NodeRow]:
    """All nodes by name."""
    return [_row(row) for row in await (await conn.execute(ALL)).fetchall()]


def _row(row: Sequence[Any]) -> NodeRow:
    nid, name, state, cordoned, drivers, millis, memory, version, labels, facts, born, beat, *rest = row
    draining, until, leaving, used_m, used_b, n = rest
    node = Node(
        NodeId(nid),
        name,
        node_state(state),
        cordoned,
        frozenset(Driver(d) for d in drivers if d in set(Driver)),
        Room(millis, memory),
        Room(int(used_m), int(used_b)),
        draining,
        leaving,
    )
    return NodeRow(node, version, labels, facts, born, beat, until, n)


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
        "leaving": node.leaving,
    }
    await fence.write(conn, UPSERT, values, term)


async def beat(conn: Conn, ids: Sequence[NodeId], *, term: int) -> None:
    """Record that these nodes were heard."""
    await fence.write(conn, BEAT, {"ids": list(ids)}, term)


async def set_state(conn: Conn, node_id: NodeId, state: NodeState, *, term: int) -> None:
    """Record what the leader thinks of a node."""
    await fence.write(conn, SET_STATE, {"id": node_id, "state": state}, term)


async def wishes(conn: Conn) -> dict[NodeId, Wish]:
    """What operators want of every node there is."""
    return {NodeId(nid): Wish(*rest) for nid, *rest in await (await conn.execute(WANTED)).fetchall()}


async def cordon(conn: Conn, node_id: NodeId) -> None:
    """Place nothing more there."""
    await conn.execute(CORDON, {"id": node_id})


async def uncordon(conn: Conn, node_id: NodeId) -> None:
    """Place there again; a drain ends."""
    await conn.execute(UNCORDON, {"id": node_id})


async def drain(conn: Conn, node_id: NodeId, within_s: float | None) -> None:
    """Place nothing more there, and after within_s seconds (None: never) stop what still runs there."""
    await conn.execute(DRAIN, {"id": node_id, "within": within_s})


async def forget(conn: Conn, node_id: NodeId) -> bool:
    """Remove a node that is lost; whether it was there, and lost."""
    return await (await conn.execute(FORGET, {"id": node_id})).fetchone() is not None


async def state_of(conn: Conn, node_id: NodeId) -> NodeState | None:
    """What the leader thinks of this node; None when there is none."""
    row = await (await conn.execute(STATE_OF, {"id": node_id})).fetchone()
    return None if row is None else node_state(row[0])


async def stranding(conn: Conn, task_id: TaskId) -> str | None:
    """The name of the lost node that a task's live attempt was placed on, if that is where it is."""
    row = await (await conn.execute(STRANDED, {"task": task_id})).fetchone()
    return None if row is None else row[0]
