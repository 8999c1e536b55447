"""Connections to PostgreSQL, and its failures in our words.

Statements run in autocommit: each is a transaction of its own, so a connection is never idle in one. Behind a pooler in
transaction mode each may run in another session: nothing here then counts on one. What sessions are set to is kept with
the role by `windlass migrate` (store/migrate.py), and no statement is prepared.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg

from windlass.errors import SettingsError, Unavailable
from windlass.store.connection import Conn
from windlass.store.pool import Pool

__all__ = ["Conn", "Pool", "borrow", "connect", "make_pool", "meet", "ping", "plan_anew", "unavailable"]

#: Seconds a request's statement may take: the server gives up first, so that most answers are certain; a server that
#: can't even do that is hung up on.
REQUEST_S, REQUEST_LOCK_S, ANSWER_S = 4.0, 3.0, 5.0

SAFE = "SELECT current_setting('synchronous_commit') <> 'off'"
#: What every session is set to.
SESSION = {
    "synchronous_commit": "on",
    "jit": "off",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    # Every statement here is meant to go by an index, a few rows at a time; sets that come as JSON are guessed at 100
    # rows, which would have small tables scanned whole.
    "enable_seqscan": "off",
    "random_page_cost": "1.1",
}


def _arguments(role: str, *, pooled: bool = False, **more: str) -> dict[str, Any]:
    """How to connect; `more` are settings of these sessions, where they have settings of their own."""
    options = " ".join(f"-c {name}={value}" for name, value in (SESSION | more).items())
    return {
        "autocommit": True,
        "prepare_threshold": None if pooled else 0,
        "application_name": f"windlass-{role}",
        "connect_timeout": 5,
        "tcp_user_timeout": 10_000,
        "gssencmode": "disable",
    } | ({} if pooled else {"options": options})


async def connect(database_url: str, role: str, *, pooled: bool = False) -> Conn:
    """One connection of its own; `pooled` says that a pooler in transaction mode is between. Raises Unavailable, and
    SettingsError when a pooler is there and `pooled` does not say so."""
    with unavailable():
        return await Conn.connect(database_url, **_arguments(role, pooled=pooled))


async def meet(database_url: str, role: str, *, pooled: bool) -> None:
    """See that the server takes us as we are, and keeps what it commits. Raises SettingsError; that no server answers
    yet is no fault of the settings."""
    with suppress(Unavailable):
        conn = await connect(database_url, role, pooled=pooled)
        async with conn:
            with unavailable():
                row = await (await conn.execute(SAFE)).fetchone()
        if row is not None and not row[0]:
            raise SettingsError(
                "synchronous_commit is off for this database: what it accepts could be lost. Run `windlass migrate` "
                "with database.pooler set, as the user the roles connect as, or set it in PostgreSQL"
            )


def make_pool(database_url: str, role: str, size: int, *, pooled: bool = False) -> Pool:
    """Connections for requests, where nobody waits long."""
    limits = {"statement_timeout": f"{REQUEST_S:g}s", "lock_timeout": f"{REQUEST_LOCK_S:g}s"}
    arguments = _arguments(role, pooled=pooled, **limits)
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
        if isinstance(error, psycopg.OperationalError) and "unsupported startup parameter" in str(error):
            raise SettingsError(
                "a pooler such as PgBouncer is between here and PostgreSQL, and refuses the settings of a session: "
                'set database.pooler = "transaction" (WINDLASS_DATABASE_POOLER=transaction)'
            ) from error
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
    if conn.prepare_threshold is not None:
        await conn.execute("DISCARD PLANS")
