"""Watches the ledger from outside while things break: placements as they are committed, and who leads."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from windlass.errors import Unavailable
from windlass.store import inspection
from windlass.store.db import Conn, connect
from windlass.store.events import Cursor
from windlass.store.inspection import Happening

T = TypeVar("T")
_POLL_S = 0.05
_ENDS = frozenset({"job.succeeded", "job.failed", "job.cancelled"})


@dataclass
class Watch:
    """Follows the event log on a connection of its own, and finds back by itself."""

    database_url: str
    placed: list[Happening] = field(default_factory=list[Happening])
    #: moments at which jobs ended, by the database's clock
    ended: list[float] = field(default_factory=list[float])
    _cursor: Cursor = field(default_factory=lambda: Cursor("0", 0))
    _conn: Conn | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            with suppress(Unavailable):
                self._cursor, news = await self.ask(lambda conn: inspection.tail(conn, self._cursor))
                self.placed += [one for one in news if one.type == "job.placed"]
                self.ended += [one.at for one in news if one.type in _ENDS]
            await asyncio.sleep(_POLL_S)

    async def ask(self, question: Callable[[Conn], Awaitable[T]]) -> T:
        """One answer of the ledger's. Raises Unavailable; the next question then comes on a new connection."""
        async with self._lock:
            try:
                if self._conn is None:
                    self._conn = await connect(self.database_url, "chaos")
                return await question(self._conn)
            except Unavailable:
                await self._close()
                raise

    async def close(self) -> None:
        """Let go of the connection."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        if self._conn is not None:
            with suppress(Exception):
                await self._conn.close()
            self._conn = None

    async def until(self, what: Callable[[Conn], Awaitable[bool]], within_s: float) -> bool:
        """Whether the ledger said yes to this within the time; not answering counts as no."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with suppress(Unavailable):
                if await self.ask(what):
                    return True
            await asyncio.sleep(_POLL_S)
        return False

    async def placement(self, after: float, above_term: int, within_s: float) -> Happening | None:
        """The first placement committed after this moment under a newer term than this, waiting for it."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = [one for one in self._since(after) if (one.fence or 0) > above_term]
            if found:
                return min(found, key=lambda one: one.at)
            await asyncio.sleep(_POLL_S)
        return None

    def _since(self, after: float) -> list[Happening]:
        """Placements after this moment; they come nearly in order of time."""
        found: list[Happening] = []
        for one in reversed(self.placed):
            if one.at < after - 5:
                break
            if one.at > after:
                found.append(one)
        return found
