"""Connections to PostgreSQL that a process shares, made for a server that goes away and comes back.

While the server answers, who borrows waits for a free connection, for a moment. Once a connection could not be made,
the server is known to be away: whoever asks is told so at once, and one task asks it again every RETRY_S seconds.
"""

import asyncio
import select
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

import psycopg
from psycopg.pq import TransactionStatus

from windlass.errors import Unavailable
from windlass.metrics import postgres as metrics
from windlass.store.connection import Conn

#: Seconds a borrower waits for a connection that others use.
WAIT_S = 2.0
RETRY_S = 0.25
#: SQLSTATE too_many_connections: the server is there, and full.
_FULL = "53300"


class Pool:
    """At most `size` connections, made when they are needed. `make` raises what the driver raises."""

    def __init__(self, conninfo: str, size: int, make: Callable[[], Awaitable[Conn]]) -> None:
        self.conninfo = conninfo
        self._size, self._make = size, make
        self._slots = asyncio.Semaphore(size)
        self._free: list[Conn] = []
        self._borrowed = 0
        #: borrowers that were told that there was none free, ever
        self.turned_away = 0
        self._away: str | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """Connections there may be."""
        return self._size

    @property
    def borrowed(self) -> int:
        """Connections that somebody holds, or that are being made."""
        return self._borrowed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections that nobody uses."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        self._drop_free()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Conn]:
        """One to use alone. Raises Unavailable when there is none, and what the driver raises in use."""
        self._must_be_there()
        try:
            async with asyncio.timeout(WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            self.turned_away += 1
            raise Unavailable(f"all {self._size} connections to PostgreSQL have been busy for {WAIT_S:g} s") from None
        self._borrowed += 1
        try:
            conn = self._idle() or await self._new()
            try:
                yield conn
            except psycopg.errors.ReadOnlySqlTransaction:
                conn.pgconn.finish()  # a standby now: the URL may lead to the one that took its place
                raise
            finally:
                self._back(conn)
        finally:
            self._borrowed -= 1
            self._slots.release()

    def _must_be_there(self) -> None:
        if self._away is not None:
            raise Unavailable(f"PostgreSQL is away: {self._away}")

    def _idle(self) -> Conn | None:
        """The one used last that still stands: the server says nothing unasked, except that it ends the session."""
        while self._free:
            conn = self._free.pop()
            if not _readable(conn):
                return conn
            conn.pgconn.finish()
        return None

    async def _new(self) -> Conn:
        self._must_be_there()
        try:
            return await self._make()
        except psycopg.OperationalError as error:
            if error.sqlstate != _FULL:
                self._lost(str(error).strip().splitlines()[0])
            raise

    def _back(self, conn: Conn) -> None:
        if not conn.closed and conn.pgconn.transaction_status == TransactionStatus.IDLE:
            self._free.append(conn)
            return
        conn.pgconn.finish()
        self._drop_free()  # what ended one has ended the others, or will

    def _drop_free(self) -> None:
        for conn in self._free:
            conn.pgconn.finish()
        self._free.clear()

    def _lost(self, why: str) -> None:
        self._away = why
        metrics.DEGRADED.set(1)
        self._drop_free()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        """Until the server is back."""
        while True:
            await asyncio.sleep(RETRY_S)
            with suppress(psycopg.Error):
                self._free.append(await self._make())
                self._away = None
                metrics.DEGRADED.set(0)
                return


def _readable(conn: Conn) -> bool:
    """Whether something has come on a connection that nobody uses, its end above all."""
    if conn.closed:
        return True
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
