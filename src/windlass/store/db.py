"""Connections to PostgreSQL, and its failures in our words.

Statements run in autocommit: each is a transaction of its own, so a connection is never idle in one.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from windlass.errors import Unavailable

Conn = psycopg.AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Conn]

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
        return await psycopg.AsyncConnection.connect(database_url, **_arguments(role))


def make_pool(database_url: str, role: str, size: int) -> Pool:
    """A pool, not yet open."""
    return AsyncConnectionPool(
        database_url,
        kwargs=_arguments(role),
        connection_class=Conn,
        min_size=1,
        max_size=size,
        timeout=5,
        open=False,
        name=role,
    )


class unavailable:
    """Turns the driver's connection faults into Unavailable; a mistake in SQL stays what it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            raise Unavailable("the database has not the schema of this version; run `windlass migrate`") from error
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout):
            raise Unavailable(f"PostgreSQL does not answer: {str(error).strip().splitlines()[0]}") from error


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
