"""One attempt on this node, from prepare to an outcome in the journal.

Order at the end: the output is in the log store, then the outcome is in the journal, then it is reported; what is
left of the attempt is removed only once the journal is on the disk.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import structlog

from windlass import crash
from windlass.core.states import Cause
from windlass.driver.base import Driver, DriverFault, EngineUnavailable, Outcome, Ticket
from windlass.stream.wire import Launch
from windlass.worker import clock
from windlass.worker.journal import Ended, Journal
from windlass.worker.lease import Lease
from windlass.worker.logs import Shipper
from windlass.worker.reporter import Reporter

log = structlog.get_logger("worker")

#: Seconds between tries to remove what is left of an attempt while its engine is away.
REMOVE_FIRST_S, REMOVE_MOST_S = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What runs share."""

    journal: Journal
    reporter: Reporter
    shipper: Shipper
    folder: Path
    lease: Lease | None = None  # without one there is no watchdog either


def ticket_of(launch: Launch, folder: Path) -> Ticket:
    """The driver's view of a launch."""
    return Ticket(
        launch.attempt_id, launch.job_id, launch.number, launch.fence, launch.spec, folder / launch.attempt_id
    )


class Run:
    """The life of one attempt here."""

    def __init__(self, bench: Bench, driver: Driver, launch: Launch, received_at: float) -> None:
        self._bench, self._driver, self.launch = bench, driver, launch
        self.ticket = ticket_of(launch, bench.folder)
        self._received_at = received_at
        self._started_at: float | None = None
        entry = bench.journal.entries.get(launch.attempt_id)
        self._stop = None if entry is None else entry.stop
        self._stopping: asyncio.Task[None] | None = None
        self._gone = False
        self._running = False
        self._preparing: asyncio.Task[None] | None = None

    async def fresh(self) -> None:
        """Prepare, start, and see it through."""
        self._bench.reporter.prepared(self.ticket.attempt_id)
        ended = await self._begin()
        await self._finish(ended or await self._see_through(resume=False))

    async def adopted(self, *, running: bool) -> None:
        """Go on with one that a former agent began; one that was only created is started now, so its limit is counted
        from its launch only if it was found running."""
        self._running = True
        try:
            await self._driver.start(self.ticket)
        except DriverFault as fault:
            await self._finish(self._end(fault.cause, fault.message))
            return
        except EngineUnavailable as error:
            log.warning("start_waits", attempt_id=self.ticket.attempt_id, error=str(error))
        self._started_at = self._received_at if running else clock.now()
        self._bench.reporter.started(self.ticket.attempt_id, self._started_at)
        self._stop_again()
        await self._finish(await self._see_through(resume=True))

    def tell(self) -> None:
        """Report again how far it has come."""
        if self._started_at is None:
            self._bench.reporter.prepared(self.ticket.attempt_id)
        else:
            self._bench.reporter.started(self.ticket.attempt_id, self._started_at)

    def stop(self, cause: Cause, message: str) -> None:
        """End it, for this cause. The first cause counts; asking again asks the driver again."""
        if self._gone:
            return
        if self._stop is None:
            self._stop = (cause, message)
            self._bench.journal.stopping(self.ticket.attempt_id, cause, message)
        if self._preparing is not None and not self._running:
            self._preparing.cancel()
        elif self._stopping is None or self._stopping.done():
            self._stopping = asyncio.create_task(self._halt())

    async def _halt(self) -> None:
        try:
            await self._driver.stop(self.ticket, self.launch.spec.stop_grace)
        except EngineUnavailable as error:
            log.warning("stop_waits", attempt_id=self.ticket.attempt_id, error=str(error))

    async def _begin(self) -> Ended | None:
        """Prepare and start; an Ended when that was the end already."""
        limit = self.launch.spec.start_timeout - (clock.now() - self._received_at)
        self._preparing = asyncio.create_task(self._prepare())
        try:
            async with asyncio.timeout(max(limit, 0.001)):
                await asyncio.shield(self._preparing)
        except TimeoutError:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
            if self._started_at is not None:
                return None  # it made it in the last moment
            return self._end(Cause.TIMEOUT, f"start_timeout of {self.launch.spec.start_timeout:g} s passed")
        except asyncio.CancelledError:
            if self._stop is None:
                raise  # the agent itself goes
            return self._end(*self._stop)
        except DriverFault as fault:
            return self._end(fault.cause, fault.message)
        except EngineUnavailable as error:
            return self._end(Cause.REJECTED, str(error))
        return self._end(*self._stop) if self._stop and not self._running else None

    async def _prepare(self) -> None:
        await self._driver.prepare(self.ticket)
        if self._stop is not None:
            return
        if self._bench.lease is not None and self._bench.lease.stale:
            raise EngineUnavailable("the node is cut off: it has had no word from Redis or the API")
        self._running = True
        await self._driver.start(self.ticket)
        self._started_at = clock.now()
        self._bench.reporter.started(self.ticket.attempt_id, self._started_at)
        self._stop_again()

    def _stop_again(self) -> None:
        """A stop that came while it was starting found nothing to stop."""
        if self._stop is not None:
            self.stop(*self._stop)

    def _end(self, cause: Cause | None, message: str = "", exit_code: int | None = None) -> Ended:
        return Ended(clock.now(), cause, exit_code, message, self._started_at)

    async def _see_through(self, *, resume: bool) -> Ended:
        """Wait for its end and for its output, minding the limits."""
        shipping = asyncio.create_task(self._bench.shipper.ship(self._driver, self.ticket, resume=resume))
        try:
            async with self._limits():
                try:
                    outcome = await self._driver.wait(self.ticket)
                except DriverFault as fault:
                    outcome = Outcome(None, fault.cause, fault.message)
                self._gone = True
                ended = self._judge(outcome)
            await self._drained(shipping)
            return ended
        finally:
            shipping.cancel()

    async def _drained(self, shipping: "asyncio.Task[None]") -> None:
        try:
            await shipping
        except (DriverFault, EngineUnavailable) as error:
            log.warning("output_incomplete", attempt_id=self.ticket.attempt_id, error=str(error))

    def _judge(self, outcome: Outcome) -> Ended:
        lease = self._bench.lease
        if outcome.exit_code != 0 and lease is not None and lease.ended_by_watchdog(self.ticket.attempt_id):
            return self._end(Cause.NODE_LOST, lease.why, outcome.exit_code)
        if self._stop is not None:
            cause, message = self._stop
            return self._end(cause, message, outcome.exit_code)
        return self._end(outcome.cause, outcome.message, outcome.exit_code)

    @contextlib.asynccontextmanager
    async def _limits(self) -> AsyncGenerator[None]:
        """While inside, the attempt is stopped when a time limit passes."""
        loop, spec = asyncio.get_running_loop(), self.launch.spec
        now = clock.now()
        timers: list[asyncio.TimerHandle] = []
        if spec.attempt_timeout is not None:
            left = (self._started_at or now) + spec.attempt_timeout - now
            message = f"attempt_timeout of {spec.attempt_timeout:g} s passed"
            timers.append(loop.call_later(max(left, 0), self.stop, Cause.TIMEOUT, message))
        if self.launch.deadline_in is not None:
            left = self._received_at + self.launch.deadline_in - now
            message = f"job_deadline of {spec.job_deadline or 0:g} s passed"
            timers.append(loop.call_later(max(left, 0), self.stop, Cause.TIMEOUT, message))
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    async def _finish(self, ended: Ended) -> None:
        self._gone = True
        attempt_id, journal = self.ticket.attempt_id, self._bench.journal
        journal.ended(attempt_id, ended)
        crash.point("worker.journalled")
        self._bench.reporter.ended(attempt_id, ended)

    async def clear(self) -> None:
        """Remove what is left of it, once its outcome is kept elsewhere."""
        if self._driver.keeps_outcome:
            await self._bench.journal.sync()
        pause = REMOVE_FIRST_S
        while True:
            try:
                await self._driver.remove(self.ticket)
                return
            except DriverFault as fault:
                log.warning("remove_failed", attempt_id=self.ticket.attempt_id, error=fault.message)
                return
            except EngineUnavailable as error:  # it comes back, perhaps before anyone has seen that it was away
                log.warning("remove_waits", attempt_id=self.ticket.attempt_id, error=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, REMOVE_MOST_S)
