"""What waits and what is live, counted by shape; how long the oldest has waited; rows on their way."""

from windlass.core.placement.demand import Demand
from windlass.core.placement.snapshot import Room, Shape
from windlass.store.db import Conn, unavailable

#: The lines of all shapes, by tasks_line; of each at most so many are counted (null: all).
COUNT = """
WITH live AS (
    SELECT shape, count(*) AS n FROM attempts
    WHERE state IN ('placed', 'preparing', 'running', 'stopping') GROUP BY shape
)
SELECT s.id, s.driver, s.millis, s.memory, q.n, coalesce(live.n, 0)
FROM shapes s LEFT JOIN live ON live.shape = s.id
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM tasks t WHERE t.shape = s.id AND t.state = 'queued' LIMIT %(most)s::bigint
    ) w
) q
WHERE q.n > 0 OR live.n > 0
"""
#: The first of every line, one line per shape and priority: one step in tasks_line each, however long the lines are.
#: One that was queued again stands where it stood, so that behind it an older one may wait.
OLDEST = """
WITH RECURSIVE line AS (
    (SELECT shape, priority, queued_at FROM tasks WHERE state = 'queued' ORDER BY shape, priority DESC, seq LIMIT 1)
    UNION ALL
    SELECT next.shape, next.priority, next.queued_at FROM line l CROSS JOIN LATERAL (
        (SELECT t.shape, t.priority, t.queued_at FROM tasks t
         WHERE t.state = 'queued' AND t.shape = l.shape AND t.priority < l.priority
         ORDER BY t.priority DESC, t.seq LIMIT 1)
        UNION ALL
        (SELECT t.shape, t.priority, t.queued_at FROM tasks t
         WHERE t.state = 'queued' AND t.shape > l.shape
         ORDER BY t.shape, t.priority DESC, t.seq LIMIT 1)
        LIMIT 1
    ) next
)
SELECT coalesce(greatest(0, extract(epoch FROM now() - min(queued_at))), 0)::float8
FROM (SELECT queued_at FROM line LIMIT 10000) heads
"""
UNDER_WAY = """
SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT 10000) o),
    (SELECT count(*) FROM (SELECT FROM inbox LIMIT 10000) i)
"""


async def count(conn: Conn, most: int | None = None) -> dict[int, Demand]:
    """What waits and what is live, by shape. Of each shape at most `most` waiting tasks are counted; without that it
    costs O(what waits). Raises Unavailable."""
    with unavailable():
        rows = await (await conn.execute(COUNT, {"most": most})).fetchall()
    return {
        number: Demand(Shape(driver, Room(millis, memory)), waiting, live)
        for number, driver, millis, memory, waiting, live in rows
    }


async def oldest_s(conn: Conn) -> float:
    """Seconds that the one that waits longest has waited, by the database's clock. Raises Unavailable."""
    with unavailable():
        row = await (await conn.execute(OLDEST)).fetchone()
    assert row is not None
    return row[0]


async def under_way(conn: Conn) -> tuple[int, int]:
    """Rows in the outbox and in the inbox, each counted up to 10,000. Raises Unavailable."""
    with unavailable():
        row = await (await conn.execute(UNDER_WAY)).fetchone()
    assert row is not None
    return row[0], row[1]
