"""The event log: what happened, in an order every reader agrees on.

Rows of one transaction share its number; a row is shown only once no older transaction can still commit, so a reader
that goes on from its cursor never misses one. The cursor is `<transaction>-<row>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from windlass.core.ids import JobId
from windlass.store.db import Conn

#: `events.txid`: the bare name would be the output column, which is text and sorts as letters.
AFTER = """
SELECT txid::text, id, at, job_id, type, data FROM events
WHERE (txid, id) > (%(txid)s::text::xid8, %(row)s::bigint) AND txid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY events.txid, events.id LIMIT %(limit)s
"""
OF_JOB = """
SELECT txid::text, id, at, job_id, type, data FROM events WHERE job_id = %(job_id)s
ORDER BY events.txid, events.id LIMIT %(limit)s
"""
#: The place from which a reader sees only what is new.
NOW = "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)::text"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the log."""

    txid: str
    row: int

    def __str__(self) -> str:
        return f"{self.txid}-{self.row}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError."""
        txid, _, row = text.partition("-")
        if not (txid.isascii() and txid.isdigit() and row.isascii() and row.isdigit()):
            raise ValueError(f"{text!r} is not a cursor; use one that this API gave, or leave it out")
        if int(txid) >= 2**63 or int(row) >= 2**63:
            raise ValueError(f"{text!r} is not a cursor; use one that this API gave, or leave it out")
        return cls(txid, int(row))


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event."""

    cursor: Cursor
    at: datetime
    job_id: JobId
    type: str
    data: dict[str, Any] | None


def _event(row: Sequence[Any]) -> EventRow:
    return EventRow(Cursor(row[0], row[1]), row[2], row[3], row[4], row[5])


async def after(conn: Conn, cursor: Cursor, limit: int = 1000) -> list[EventRow]:
    """Events behind the cursor, oldest first."""
    values = {"txid": cursor.txid, "row": cursor.row, "limit": limit}
    return [_event(row) for row in await (await conn.execute(AFTER, values)).fetchall()]


async def of_job(conn: Conn, job_id: JobId, limit: int = 10_000) -> list[EventRow]:
    """A job's events, oldest first."""
    rows = await (await conn.execute(OF_JOB, {"job_id": job_id, "limit": limit})).fetchall()
    return [_event(row) for row in rows]


async def now(conn: Conn) -> Cursor:
    """The end of the log."""
    row = await (await conn.execute(NOW)).fetchone()
    assert row is not None
    return Cursor(row[0], 2**63 - 1)
