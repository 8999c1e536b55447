"""Reports that workers handed to the API because the stream would not take them, or nobody heard them there.

One row is one exchange. A row goes once the leader has dealt with it. What nobody dealt with for a minute goes too: no
leader was there, and a worker says again what matters, for as long as nobody answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.store import fence
from windlass.store.db import Conn, unavailable

PUT = """
WITH old AS (DELETE FROM inbox WHERE created_at < now() - interval '1 minute')
INSERT INTO inbox (body) VALUES (%(body)s)
"""
#: The oldest rows, few enough to be dealt with in a moment, and the count of how often each was taken. One under
#: suspicion comes alone among fresh ones.
TAKE = f"""
WITH {fence.FENCE}, taken AS (
    UPDATE inbox SET taken = taken + 1
    WHERE EXISTS (SELECT FROM fence) AND id IN (
        (SELECT id FROM (SELECT id, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS before
            FROM inbox WHERE taken < %(suspect)s ORDER BY id LIMIT %(limit)s) AS fresh WHERE before < %(bytes)s)
        UNION ALL (SELECT id FROM inbox WHERE taken >= %(suspect)s ORDER BY id LIMIT 1))
    RETURNING id, body, taken
)
SELECT (SELECT term FROM fence), (SELECT array_agg(id ORDER BY id) FROM taken),
    (SELECT array_agg(body ORDER BY id) FROM taken), (SELECT array_agg(taken ORDER BY id) FROM taken)
"""
CLEAR = f"""
WITH {fence.FENCE}, cleared AS (
    DELETE FROM inbox WHERE id = ANY(%(ids)s) AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """One exchange: the messages as they came, and how often a leader has taken them up, this time included."""

    id: int
    body: bytes
    taken: int


async def put(conn: Conn, body: bytes) -> None:
    """Keep what a worker reports, for whoever leads. Raises Unavailable."""
    with unavailable():
        await conn.execute(PUT, {"body": body})


async def take(conn: Conn, *, term: int, suspect: int, limit: int = 200, size: int = 8 * 2**20) -> list[Letter]:
    """The oldest letters, until they are `limit` or have `size` bytes; of those taken up `suspect` times and never
    cleared only one. Raises Fenced, Unavailable."""
    values = {"suspect": suspect, "limit": limit, "bytes": size}
    _, ids, bodies, taken = await fence.write(conn, TAKE, values, term)
    return [Letter(i, bytes(body), n) for i, body, n in zip(ids or (), bodies or (), taken or (), strict=True)]


async def clear(conn: Conn, ids: Sequence[int], *, term: int) -> None:
    """Forget letters that were dealt with. Raises Fenced, Unavailable."""
    await fence.write(conn, CLEAR, {"ids": list(ids)}, term)
