"""The record of changes: who did what, when, and by which request. Each is written in the transaction of the change
itself, so neither is ever there without the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Json

from windlass.store.db import Conn

NOTE = """
INSERT INTO audit (token_id, who, role, request_id, action, target, detail)
VALUES (%(token_id)s, %(who)s, %(role)s, %(request_id)s, %(action)s, %(target)s, %(detail)s)
"""
PAGE = """
SELECT id, at, token_id, who, role, request_id, action, target, detail FROM audit
WHERE (%(before)s::bigint IS NULL OR id < %(before)s) AND (%(who)s::text IS NULL OR who = %(who)s)
    AND (%(action)s::text IS NULL OR action = %(action)s) AND (%(target)s::text IS NULL OR target = %(target)s)
ORDER BY id DESC LIMIT %(limit)s
"""
#: The oldest first, a piece at a time: nobody waits for it.
FORGET = """
DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT 5000)
    AND at < now() - %(days)s::float8 * interval '1 day'
"""


@dataclass(frozen=True, slots=True)
class By:
    """Who makes a change, and by which request. `action` is the operation's name in the API."""

    token_id: str | None
    who: str
    role: str
    request_id: str
    action: str


@dataclass(frozen=True, slots=True)
class Record:
    """One change somebody made."""

    id: int
    at: datetime
    by: By
    target: str
    detail: Mapping[str, Any] | None


async def note(conn: Conn, by: By, target: str, detail: Mapping[str, Any] | None = None) -> None:
    """Record a change; call it in the transaction that makes it."""
    values = {
        "token_id": by.token_id,
        "who": by.who,
        "role": by.role,
        "request_id": by.request_id,
        "action": by.action,
        "target": target,
        "detail": None if detail is None else Json(dict(detail)),
    }
    await conn.execute(NOTE, values)


async def page(
    conn: Conn,
    limit: int,
    before: int | None = None,
    *,
    who: str | None = None,
    action: str | None = None,
    target: str | None = None,
) -> list[Record]:
    """Up to `limit` records, newest first, older than `before`."""
    values = {"limit": limit, "before": before, "who": who, "action": action, "target": target}
    rows = await (await conn.execute(PAGE, values)).fetchall()
    return [Record(row[0], row[1], By(row[2], row[3], row[4], row[5], row[6]), row[7], row[8]) for row in rows]


async def forget(conn: Conn, older_than_days: float) -> None:
    """Delete some of the records that are older than this."""
    await conn.execute(FORGET, {"days": older_than_days})
