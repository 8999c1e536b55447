"""The leader's lease: a row whose term grows by one per takeover, by the database's clock."""

from dataclasses import dataclass
from datetime import datetime

from windlass.store.db import Conn, unavailable

#: Takes the lease, with the next term, only once it has lapsed. With the term comes its bell: a session-level lock,
#: held before the term can be seen, that the database frees the moment the holder's connection ends.
TAKE = """
WITH won AS (
    INSERT INTO leases AS l (name, holder, term, since, expires_at)
    VALUES ('leader', %(holder)s, 1, now(), now() + %(ttl)s * interval '1 second')
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder, term = l.term + 1, since = now(), expires_at = excluded.expires_at
    WHERE l.expires_at <= now()
    RETURNING l.term
)
SELECT term, CASE WHEN %(bell)s::boolean THEN pg_try_advisory_lock(%(key)s::bigint + term) END FROM won
"""
#: Extends a lease that is still ours; a lapsed one that nobody took may be kept, for the term proves no one led since.
RENEW = """
UPDATE leases SET expires_at = now() + %(ttl)s * interval '1 second'
WHERE name = 'leader' AND holder = %(holder)s AND term = %(term)s RETURNING term
"""
#: Lets the next one in at once.
RESIGN = "UPDATE leases SET expires_at = now() WHERE name = 'leader' AND holder = %(holder)s AND term = %(term)s"
#: Whether nobody holds the bell of a term; looking lets go of it again.
SILENT = """
SELECT CASE WHEN pg_try_advisory_lock(%(bell)s::bigint) THEN pg_advisory_unlock(%(bell)s::bigint) ELSE false END
"""
PUT_DOWN = "SELECT pg_advisory_unlock(%(bell)s::bigint)"
#: Brings a lapse forward. With `seen`, only while nobody has renewed the lease since it was seen so.
EXPIRE = """
UPDATE leases SET expires_at = now() WHERE name = 'leader' AND term = %(term)s
    AND (%(seen)s::timestamptz IS NULL OR expires_at = %(seen)s)
"""
LEADER = """
SELECT holder, term, since, expires_at, expires_at > now() FROM leases WHERE name = 'leader'
"""
_BELL_KEY = 0x77696E646C626C


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads. `live` is false when the lease has lapsed."""

    holder: str
    term: int
    since: datetime
    expires_at: datetime
    live: bool


async def take(conn: Conn, holder: str, ttl_s: float, *, bell: bool = True) -> int | None:
    """The new term if the lease was free, else None. With a bell, this connection's end tells others at once."""
    values = {"holder": holder, "ttl": ttl_s, "bell": bell, "key": _BELL_KEY}
    with unavailable():
        row = await (await conn.execute(TAKE, values)).fetchone()
    return None if row is None else row[0]


async def renew(conn: Conn, holder: str, term: int, ttl_s: float) -> bool:
    """Whether the lease is still ours, extended."""
    with unavailable():
        row = await (await conn.execute(RENEW, {"holder": holder, "term": term, "ttl": ttl_s})).fetchone()
    return row is not None


async def resign(conn: Conn, holder: str, term: int, *, bell: bool = True) -> None:
    """Give the lease up, so that another may lead at once."""
    with unavailable():
        await conn.execute(RESIGN, {"holder": holder, "term": term})
        if bell:
            await conn.execute(PUT_DOWN, {"bell": _BELL_KEY + term})


async def silent(conn: Conn, term: int) -> bool:
    """Whether the session that took this term, with a bell, is gone."""
    with unavailable():
        row = await (await conn.execute(SILENT, {"bell": _BELL_KEY + term})).fetchone()
    return row is not None and row[0]


async def expire(conn: Conn, term: int, seen: datetime | None = None) -> None:
    """Let the lease of this term lapse now: its holder's session is gone, or it no longer renews what was `seen`."""
    with unavailable():
        await conn.execute(EXPIRE, {"term": term, "seen": seen})


async def leader(conn: Conn) -> Leader | None:
    """The lease as it stands."""
    with unavailable():
        row = await (await conn.execute(LEADER)).fetchone()
    return None if row is None else Leader(*row)
