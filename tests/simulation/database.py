"""PostgreSQL as a program sees it: connections whose statements are answered by the simulated ledger, and their faults.

A statement is one atomic moment at the server. A connection may break before that moment or after it, and the caller
can't tell which: it gets the same OperationalError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from tests.simulation.ledger import Ledger, Session
from tests.simulation.network import LATER, Call
from tests.simulation.process import alive
from tests.simulation.twins import Rows, UnknownStatement, twin_of
from windlass.store.db import ANSWER_S, unavailable
from windlass.store.pool import Pool

if TYPE_CHECKING:
    from tests.simulation.world import World

CONNECT_S = 5.0
TCP_S = 10.0
#: Seconds after which the server notices that a client it can't reach is gone.
NOTICED_S = 20.0


class Database:
    """The server. `cut_share` of all statements break their connection, one half before and one half after."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ledger = Ledger(lambda: world.loop.now)
        self.up = True
        self.stalled_until = 0.0
        self.cut_share = 0.0
        self.connections: list[Connection] = []
        self._stalled: list[Call] = []

    async def connect(self, url: str, role: str) -> Connection:
        """In place of windlass.store.db.connect. Raises Unavailable."""
        with unavailable():
            connection = Connection(self._world, self, role)
            await connection.open()
            return connection

    def pool(self, url: str, role: str, size: int) -> Pool:
        """In place of windlass.store.db.make_pool: the real pool over these connections."""

        async def make() -> Connection:
            connection = Connection(self._world, self, role)
            connection.answer_s = ANSWER_S
            await connection.open()
            return connection

        return Pool(url, size, make)  # type: ignore[arg-type]

    def stop(self) -> None:
        """As `pg_ctl stop -m immediate`: every connection breaks, and none is taken until `up` again."""
        self.up = False
        for connection in list(self.connections):
            connection.broken("the server closed the connection unexpectedly")

    def serve(self, call: Call, connection: Connection, statement: str, values: Any) -> Any:
        """The moment of a statement. Raises what PostgreSQL answers."""
        world = self._world
        wait = self.stalled_until - world.loop.now
        if wait > 0:
            world.loop.at(
                self.stalled_until + world.random.random() * 0.01, self._late, call, connection, statement, values
            )
            return LATER
        return self._execute(connection, statement, values)

    def _late(self, call: Call, connection: Connection, statement: str, values: Any) -> None:
        result, error = None, None
        try:
            result = self.serve(call, connection, statement, values)
        except Exception as fault:
            error = fault
        if result is not LATER:
            self._world.network.reply(call, result, error)

    def _execute(self, connection: Connection, statement: str, values: Any) -> Rows:
        if not self.up or not connection.session.open:
            raise psycopg.OperationalError("the connection is closed")
        name, function = twin_of(statement)
        draw = self._world.random.random() if self.cut_share else 1.0
        if draw < self.cut_share / 2:
            connection.broken("server closed the connection unexpectedly, before")
            raise psycopg.OperationalError("the connection is cut")
        rows = function(self.ledger, connection.session, values or {})
        self._world.note("sql", connection.session.role, name, len(rows))
        if draw < self.cut_share:
            connection.broken("server closed the connection unexpectedly, after")
            raise psycopg.OperationalError("the connection is cut")
        return rows


class Cursor:
    """The rows of one statement."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.rowcount = len(rows)

    async def fetchone(self) -> Sequence[Any] | None:
        return self._rows[0] if self._rows else None

    async def fetchall(self) -> Rows:
        return self._rows


class Connection:
    """One connection, as far as the store uses psycopg's."""

    prepare_threshold = 0

    def __init__(self, world: World, database: Database, role: str) -> None:
        self._world, self._database = world, database
        self.process = alive()
        self.session = Session(role, self.process, open=False)
        self.closed = False
        self.answer_s = 30.0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    @property
    def pgconn(self) -> Connection:
        """As much of libpq's as the pool uses."""
        return self

    @property
    def transaction_status(self) -> TransactionStatus:
        return TransactionStatus.IDLE

    def finish(self) -> None:
        """Close it at once."""
        if not self.closed:
            self.closed = True
            self._abandoned()

    async def open(self) -> None:
        """Raises psycopg.OperationalError."""

        def serve(call: Call) -> None:
            if not self._database.up:
                raise psycopg.OperationalError("connection refused")
            self.session.open = not self.process.dead
            self._database.connections.append(self)

        await self._call(serve, CONNECT_S)
        self.process.at_end.append(self._abandoned)

    async def execute(self, statement: str, values: Any = None, **_: Any) -> Cursor:
        """Raises psycopg.Error."""
        alive()
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        return Cursor(await self._call(lambda call: self._database.serve(call, self, statement, values), TCP_S))

    async def _call(self, serve: Any, patience_s: float) -> Any:
        future: asyncio.Future[Any] = self._world.loop.create_future()

        def answer(result: Any, error: Exception | None) -> None:
            if isinstance(error, UnknownStatement):
                self._world.broken(str(error))
            if isinstance(error, TimeoutError):
                self.broken("the network does not answer")
            if not future.done():
                if error is None:
                    future.set_result(result)
                elif isinstance(error, psycopg.Error):
                    future.set_exception(error)
                else:
                    future.set_exception(psycopg.OperationalError(str(error)))

        call = Call(self.process, "ledger", serve, answer, self._world.loop.now, patience_s)
        self._waiting[id(future)] = future
        self._world.network.send(call)
        overdue = self._world.loop.call_later(self.answer_s, self.broken, "no answer in time")
        try:
            return await future
        except asyncio.CancelledError:
            self.finish()  # what was sent may still come to pass
            raise
        finally:
            overdue.cancel()
            self._waiting.pop(id(future), None)

    def broken(self, why: str) -> None:
        """The connection is gone, for both ends."""
        self.closed = True
        self._forget()
        for future in self._waiting.values():
            self._world.loop.call_soon(_fail, future, why, context=self.process.context)

    def _forget(self) -> None:
        self._database.ledger.end(self.session)
        if self in self._database.connections:
            self._database.connections.remove(self)

    def _abandoned(self) -> None:
        """Its process has ended: the server notices at once, or after a while when it can't be told."""
        now = self._world.loop.now
        far = "ledger" in self.process.host.cut
        self._world.loop.at(now + (NOTICED_S if far else 0.01), self._forget)

    async def close(self) -> None:
        if not self.process.dead:
            self.finish()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _fail(future: asyncio.Future[Any], why: str) -> None:
    if not future.done():
        future.set_exception(psycopg.OperationalError(why))
