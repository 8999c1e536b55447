"""The leader's lease: a row whose term grows by one per takeover, by the database's clock."""

from dataclasses import dataclass

from windlass.store.db import Conn, unavailable

#: Keeps the lease if it is ours by holder and term; otherwise takes it, with the next term, only once it has lapsed.
TAKE = """
INSERT INTO leases AS l (name, holder, term, since, expires_at)
VALUES ('leader', %(holder)s, 1, now(), now() + %(ttl)s * interval '1 second')
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder, term = l.term + 1, since = now(), expires_at = excluded.expires_at
WHERE l.expires_at <= now()
RETURNING l.term
"""
#: Extends a lease that is still ours; a lapsed one that nobody took may be kept, for the term proves no one led since.
RENEW = """
UPDATE leases SET expires_at = now() + %(ttl)s * interval '1 second'
WHERE name = 'leader' AND holder = %(holder)s AND term = %(term)s RETURNING term
"""
#: Lets the next one in at once.
RESIGN = "UPDATE leases SET expires_at = now() WHERE name = 'leader' AND holder = %(holder)s AND term = %(term)s"
#: Session-level: the database frees it the moment the holder's connection ends, so a crash is noticed at once.
BELL = "SELECT pg_try_advisory_lock(%(key)s)"
#: Brings a lapse forward: only for a lease whose holder's session is gone (its bell lock is ours now).
EXPIRE = "UPDATE leases SET expires_at = now() WHERE name = 'leader' AND term = %(term)s"
LEADER = """
SELECT holder, term, since, expires_at > now() FROM leases WHERE name = 'leader'
"""
_BELL_KEY = 0x77696E646C626C


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads. `live` is false when the lease has lapsed."""

    holder: str
    term: int
    since: str
    live: bool


async def take(conn: Conn, holder: str, ttl_s: float) -> int | None:
    """The new term if the lease was free, else None."""
    with unavailable():
        row = await (await conn.execute(TAKE, {"holder": holder, "ttl": ttl_s})).fetchone()
    return None if row is None else row[0]


async def renew(conn: Conn, holder: str, term: int, ttl_s: float) -> bool:
    """Whether the lease is still ours, extended."""
    with unavailable():
        row = await (await conn.execute(RENEW, {"holder": holder, "term": term, "ttl": ttl_s})).fetchone()
    return row is not None


async def resign(conn: Conn, holder: str, term: int) -> None:
    """Give the lease up, so that another may lead at once."""
    with unavailable():
        await conn.execute(RESIGN, {"holder": holder, "term": term})


async def hold_bell(conn: Conn) -> bool:
    """Whether this session holds the early bell: true means no other live session does."""
    with unavailable():
        row = await (await conn.execute(BELL, {"key": _BELL_KEY})).fetchone()
    return row is not None and row[0]


async def expire(conn: Conn, term: int) -> None:
    """Let the lease of this term lapse now: its holder's session is gone."""
    with unavailable():
        await conn.execute(EXPIRE, {"term": term})


async def leader(conn: Conn) -> Leader | None:
    """The lease as it stands."""
    with unavailable():
        row = await (await conn.execute(LEADER)).fetchone()
    return None if row is None else Leader(row[0], row[1], row[2].isoformat(), row[3])
