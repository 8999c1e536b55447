"""Whether a session of PostgreSQL stays with the client that has it.

A pooler in transaction mode gives each transaction any session that is free. So: take a session's advisory lock, hold
the session's transaction slot with a second client, and look whether the first is still where it was.
"""

import secrets
from contextlib import suppress

import psycopg

from windlass.errors import Unavailable
from windlass.settings import Database
from windlass.store.db import Conn, connect

#: Seconds for each answer: a pooler with one session only would have the first client wait for the second for ever.
WAIT_S = 2.0
LOCK = "SELECT pg_advisory_lock(%(key)s), pg_backend_pid()"
STILL = """
SELECT pg_backend_pid(), EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
    AND (classid::bigint << 32) | objid::bigint = %(key)s)
"""
UNLOCK = "SELECT pg_advisory_unlock(%(key)s)"
HERE = "SELECT 1"


async def isolation(settings: Database) -> bool:
    """Whether somebody shares our sessions. Raises Unavailable."""
    key = secrets.randbits(62)
    first = await connect(settings.url, "doctor", pooled=settings.pooled)
    async with first:
        second = await connect(settings.url, "doctor", pooled=settings.pooled)
        async with second:
            first.answer_s = second.answer_s = WAIT_S
            return await _moved(first, second, key)


async def _moved(first: Conn, second: Conn, key: int) -> bool:
    row = await (await first.execute(LOCK, {"key": key})).fetchone()
    assert row is not None
    try:
        async with second.transaction():
            await second.execute(HERE)
            try:
                now = await (await first.execute(STILL, {"key": key})).fetchone()
            finally:
                await second.execute(UNLOCK, {"key": key})  # the lock's session, where that was given away
    except psycopg.Error:
        return True
    with suppress(psycopg.Error, Unavailable):
        await first.execute(UNLOCK, {"key": key})
    return now != (row[1], True)
