"""Connections to PostgreSQL, and its failures in our words.

Statements run in autocommit: each is a transaction of its own, so a connection is never idle in one.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from windlass.errors import Unavailable
from windlass.store.connection import Conn
from windlass.store.pool import Pool

__all__ = ["Conn", "Pool", "borrow", "connect", "make_pool", "ping", "plan_anew", "unavailable"]

#: Seconds a request's statement may take: the server gives up first, so that most answers are certain; a server that
#: can't even do that is hung up on.
REQUEST_S, REQUEST_LOCK_S, ANSWER_S = 4.0, 3.0, 5.0

_SESSION = (
    "-c synchronous_commit=on -c jit=off"
    " -c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s"
    # Every statement here is meant to go by an index, a few rows at a time; sets that come as JSON are guessed at 100
    # rows, which would have small tables scanned whole.
    " -c enable_seqscan=off -c random_page_cost=1.1"
)


def _arguments(role: str) -> dict[str, Any]:
    return {
        "autocommit": True,
        "prepare_threshold": 0,
        "application_name": f"windlass-{role}",
        "options": _SESSION,
        "connect_timeout": 5,
        "tcp_user_timeout": 10_000,
        "gssencmode": "disable",
    }


async def connect(database_url: str, role: str) -> Conn:
    """One connection of its own. Raises Unavailable."""
    with unavailable():
        return await Conn.connect(database_url, **_arguments(role))


def make_pool(database_url: str, role: str, size: int) -> Pool:
    """Connections for requests, where nobody waits long."""
    arguments = _arguments(role)
    arguments["options"] += f" -c statement_timeout={REQUEST_S:g}s -c lock_timeout={REQUEST_LOCK_S:g}s"
    arguments["connect_timeout"] = 3

    async def make() -> Conn:
        conn = await Conn.connect(database_url, **arguments)
        conn.answer_s = ANSWER_S
        return conn

    return Pool(database_url, size, make)


#: Failures that say nothing about the request: the connection (class 08), resources (53), an operator or a restart
#: (57), a deadlock or conflict (40), a lock not had in time (55P03), the system (58) are all OperationalError; a server
#: that has become a standby (25006) is not.
_PASSING = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)


class unavailable:
    """Turns the database's passing failures into Unavailable; a mistake in SQL stays what it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            raise Unavailable("the database has not the schema of this version; run `windlass migrate`") from error
        if isinstance(error, _PASSING):
            raise Unavailable(_told(error)) from error


def _told(error: psycopg.Error) -> str:
    code = error.sqlstate
    why = (str(error).strip() or type(error).__name__).splitlines()[0]
    if code is None or (code[:2] in ("08", "57") and code != "57014"):
        return f"PostgreSQL does not answer: {why}"
    return f"PostgreSQL can't do this now: {why} ({code})"


@asynccontextmanager
async def borrow(pool: Pool) -> AsyncGenerator[Conn]:
    """A pooled connection; connection faults inside become Unavailable."""
    with unavailable():
        async with pool.connection() as conn:
            yield conn


async def ping(conn: Conn) -> None:
    """Raises what the driver raises when the server does not answer."""
    await conn.execute("SELECT 1")


async def plan_anew(conn: Conn) -> None:
    """Forget this session's cached plans. One made while a table was small goes through all of it, and would be kept
    however large the table grows."""
    await conn.execute("DISCARD PLANS")
