"""Elect: who leads. The lease row with its term is the proof; everything else only makes it quick.

One attempt per beat, on a connection of its own:
1. A leader renews. It trusts itself until `trusted_until`, counted from before the renewal was sent, on its own
   monotonic clock; past that moment it stops by itself, answer or no answer.
2. A standby takes the lease if it has lapsed: by the database's clock, or because the standby, by its own, has seen
   nobody renew it for longer than it is good for. The second holds even when the database's clock was set back.
3. The bell: whoever takes a term holds a session-level advisory lock of that term's number. A standby that finds it
   free while the lease still stands knows that the holder's session is gone, and lets the lease lapse at once instead
   of waiting it out. Behind a pooler in transaction mode the bell means nothing, and the fence makes a false one
   harmless; `bell` switches it off.

On the same connection it says once a second that this scheduler lives.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from windlass.core.lease import SAFETY_MARGIN_S, trusted_until
from windlass.errors import Fenced, Unavailable
from windlass.metrics import postgres
from windlass.metrics import scheduler as metrics
from windlass.scheduler.presence import Presence
from windlass.store import leases
from windlass.store.db import Conn, connect
from windlass.store.leases import Leader

log = structlog.get_logger("scheduler")

SAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How the lease is kept, in seconds."""

    ttl_s: float = 3.0
    renew_s: float = 1.0
    standby_s: float = 0.2
    bell: bool = True
    #: a pooler in transaction mode is between here and the ledger
    pooled: bool = False


class Elector:
    """Runs for office for as long as it lives; while it leads, one `lead(term)` task runs."""

    def __init__(
        self, database_url: str, presence: Presence, terms: Terms, lead: Callable[[int], Awaitable[None]]
    ) -> None:
        self._url, self._presence, self._terms, self._lead = database_url, presence, terms, lead
        self._holder = presence.id
        self._conn: Conn | None = None
        self._since = 0.0
        self._said = float("-inf")
        #: the lease as a standby last saw it, and since when it has looked the same
        self._seen: tuple[int, datetime] | None = None
        self._seen_since = 0.0
        self._away = False
        self.term: int | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until stop is set; then resigns."""
        try:
            while not stop.is_set():
                try:
                    await self._say()
                    term = await self._stand()
                    self._back()
                except Unavailable as error:
                    self._waits(error)
                    await self._close()
                    term = None
                if term is not None:
                    await self._reign(term, stop)
                if not stop.is_set():
                    await _sleep(stop, self._terms.standby_s)
        finally:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(1):
                    await self._presence.leave(await self._connection())
            await self._close()

    async def _say(self) -> None:
        if time.monotonic() - self._said >= SAY_S:
            await self._presence.say(await self._connection())
            self._said = time.monotonic()

    def _waits(self, error: Unavailable) -> None:
        """Once per outage, however often it is tried."""
        if not self._away:
            self._away = True
            postgres.DEGRADED.set(1)
            log.warning("election_waits", error=str(error))

    def _back(self) -> None:
        self._away = False
        postgres.DEGRADED.set(0)

    async def _connection(self) -> Conn:
        if self._conn is None or self._conn.closed:
            self._conn = await connect(self._url, "elector", pooled=self._terms.pooled)
        return self._conn

    async def _close(self) -> None:
        if self._conn is not None:
            with suppress(Exception):
                await self._conn.close()
            self._conn = None

    async def _stand(self) -> int | None:
        """One try for the lease: the term won, or None."""
        conn = await self._connection()
        current = await leases.leader(conn)  # looked at first: a try would lock the row the leader writes under
        if current is not None and current.live:
            if self._terms.bell and await leases.silent(conn, current.term):
                log.info("leader_session_gone", holder=current.holder, term=current.term)
                await leases.expire(conn, current.term)
            elif self._stale(current):
                log.warning("lease_not_renewed", holder=current.holder, term=current.term)
                await leases.expire(conn, current.term, current.expires_at)
            else:
                return None
        return await self._take(conn)

    def _stale(self, current: Leader) -> bool:
        """Whether nobody has renewed it, as seen from here, for longer than it is good for."""
        seen, now = (current.term, current.expires_at), time.monotonic()
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
        return now - self._seen_since > self._terms.ttl_s + SAFETY_MARGIN_S

    async def _take(self, conn: Conn) -> int | None:
        self._since = time.monotonic()
        return await leases.take(conn, self._holder, self._terms.ttl_s, bell=self._terms.bell)

    async def _reign(self, term: int, stop: asyncio.Event) -> None:
        """Lead until the trust runs out, the lease is lost, the duties fail, or stop is set."""
        self.term = term
        self._shown(term, self._since)
        metrics.TERMS.inc()
        log.info("leading", term=term)
        duties = asyncio.ensure_future(self._lead(term))
        until = trusted_until(self._since, self._terms.ttl_s)
        try:
            while not stop.is_set():
                pause = min(self._terms.renew_s, max(0.0, until - time.monotonic()))
                await _sleep(stop, pause, duties)
                if duties.done() or stop.is_set():
                    break
                began = time.monotonic()
                if began >= until or not await self._renewed(term, until - began):
                    log.warning("lease_lost", term=term)
                    break
                until = trusted_until(began, self._terms.ttl_s)
                self._shown(term, began)
                metrics.RENEWAL.observe(time.monotonic() - began)
                await self._said_by(until)
        finally:
            self.term = None
            self._shown(0, None)
            duties.cancel()
            await self._finish(duties, term)

    def _shown(self, term: int, renewed_at: float | None) -> None:
        """On the page for Prometheus: the term, and how old the lease is whenever somebody asks."""
        metrics.TERM.set(term)
        metrics.LEADER.set(renewed_at is not None)
        metrics.LEASE_AGE.set_function(lambda: 0.0 if renewed_at is None else time.monotonic() - renewed_at)

    async def _renewed(self, term: int, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                conn = await self._connection()
                return await leases.renew(conn, self._holder, term, self._terms.ttl_s)
        except (Unavailable, TimeoutError) as error:
            log.warning("renewal_failed", term=term, error=str(error) or "too slow")
            await self._close()
            return False

    async def _said_by(self, until: float) -> None:
        """Say that this scheduler lives; that it can't be said is no reason to stop leading."""
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._say()
        except (Unavailable, TimeoutError) as error:
            log.warning("presence_not_renewed", error=str(error) or "too slow")

    async def _finish(self, duties: "asyncio.Future[None]", term: int) -> None:
        try:
            await duties
        except asyncio.CancelledError:
            pass
        except (Fenced, Unavailable) as error:
            if isinstance(error, Fenced):
                metrics.FENCED_WRITES.inc()
            log.warning("duties_ended", term=term, error=str(error))
        except Exception:
            log.exception("duties_failed", term=term)
        try:
            async with asyncio.timeout(2):
                await leases.resign(await self._connection(), self._holder, term, bell=self._terms.bell)
        except (Unavailable, TimeoutError):
            await self._close()


async def _sleep(stop: asyncio.Event, seconds: float, *others: "asyncio.Future[None]") -> None:
    """Until the time is over, stop is set, or one of the others is done."""
    waiter = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([waiter, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
