"""Logs: chunks of output by attempt and stream, with byte offsets. A gap is a row too: `missing` bytes, no data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.core.ids import AttemptId
from windlass.store.db import Conn

#: Idempotent by (attempt, stream, start): a chunk sent twice is kept once. Unknown attempts are refused by count.
APPEND = """
INSERT INTO log_chunks (attempt_id, stream, start, missing, data)
SELECT c.attempt_id, c.stream, c.start, c.missing, c.data
FROM unnest(%(attempts)s::text[], %(streams)s::text[], %(starts)s::bigint[], %(missing)s::bigint[], %(data)s::bytea[])
    WITH ORDINALITY AS c (attempt_id, stream, start, missing, data, ord)
WHERE EXISTS (SELECT FROM attempts a WHERE a.id = c.attempt_id)
ORDER BY c.ord ON CONFLICT DO NOTHING
"""
READ = """
SELECT seq, stream, start, at, missing, data FROM log_chunks
WHERE attempt_id = %(attempt_id)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
"""
#: The newest chunks first, for the last lines of a long log.
READ_BACK = """
SELECT seq, stream, start, at, missing, data FROM log_chunks
WHERE attempt_id = %(attempt_id)s AND seq < %(before)s ORDER BY seq DESC LIMIT %(limit)s
"""
STORED = """
SELECT stream, max(start + missing + octet_length(data)) FROM log_chunks WHERE attempt_id = %(attempt_id)s GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of an attempt's output; `missing` > 0 marks a gap of that many bytes from `start`."""

    attempt_id: AttemptId
    stream: str
    start: int
    data: bytes
    missing: int = 0
    at: datetime | None = None
    seq: int = 0


async def append(conn: Conn, chunks: Sequence[LogChunk]) -> None:
    """Keep chunks, in order of arrival."""
    values = {
        "attempts": [c.attempt_id for c in chunks],
        "streams": [c.stream for c in chunks],
        "starts": [c.start for c in chunks],
        "missing": [c.missing for c in chunks],
        "data": [c.data for c in chunks],
    }
    await conn.execute(APPEND, values)


async def read(conn: Conn, attempt_id: AttemptId, after: int, limit: int = 64) -> list[LogChunk]:
    """Chunks that arrived after the one numbered `after`."""
    values = {"attempt_id": attempt_id, "after": after, "limit": limit}
    cursor = await conn.execute(READ, values, binary=True)
    return [
        LogChunk(attempt_id, s, start, data, gap, at, seq) for seq, s, start, at, gap, data in await cursor.fetchall()
    ]


async def read_back(conn: Conn, attempt_id: AttemptId, before: int, limit: int = 16) -> list[LogChunk]:
    """Chunks that arrived before the one numbered `before`, the newest first."""
    values = {"attempt_id": attempt_id, "before": before, "limit": limit}
    cursor = await conn.execute(READ_BACK, values, binary=True)
    return [
        LogChunk(attempt_id, s, start, data, gap, at, seq) for seq, s, start, at, gap, data in await cursor.fetchall()
    ]


async def stored(conn: Conn, attempt_id: AttemptId) -> dict[str, int]:
    """How far each stream reaches, in bytes from its start."""
    return dict(await (await conn.execute(STORED, {"attempt_id": attempt_id})).fetchall())
