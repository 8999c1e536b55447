"""Commands that were committed and may not have been sent: ids only, read again from the ledger when they must be."""

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.core.ids import AttemptId, NodeId
from windlass.store import fence
from windlass.store.db import Conn

#: Rows older than `age` seconds; younger ones are on their way already.
STALE = """
SELECT id, node_id, body FROM outbox
WHERE created_at <= now() - %(age)s * interval '1 second' ORDER BY id LIMIT %(limit)s
"""
CLEAR = f"""
WITH {fence.FENCE}, cleared AS (
    DELETE FROM outbox WHERE id = ANY(%(ids)s) AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
"""


@dataclass(frozen=True, slots=True)
class Order:
    """One row: what a node was to be told."""

    id: int
    node_id: NodeId
    launch: tuple[AttemptId, ...]
    stop: tuple[AttemptId, ...]


async def unsent(conn: Conn, age_s: float, limit: int = 500) -> list[Order]:
    """Rows that are at least age_s old, the oldest first."""
    rows = await (await conn.execute(STALE, {"age": age_s, "limit": limit})).fetchall()
    return [Order(i, NodeId(node), tuple(body["launch"]), tuple(body["stop"])) for i, node, body in rows]


async def clear(conn: Conn, ids: Sequence[int], *, term: int) -> None:
    """Forget rows that were sent. Raises Fenced."""
    await fence.write(conn, CLEAR, {"ids": list(ids)}, term)
