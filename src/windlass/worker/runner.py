"""One attempt on this node, from prepare to an outcome in the journal.

Order at the end: the output is in the log store, then the outcome is in the journal, then it is reported; what is
left of the attempt is removed only once the journal is on the disk.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import structlog

from windlass import crash, tracing
from windlass.core.ids import task_of
from windlass.core.states import Cause
from windlass.core.trace import TraceContext, attempt_span, parse
from windlass.driver.base import Driver, DriverFault, EngineUnavailable, Outcome, Ticket
from windlass.metrics import worker as metrics
from windlass.stream.wire import Launch
from windlass.tracing import Span
from windlass.worker import clock
from windlass.worker.journal import Ended, Journal
from windlass.worker.lease import Lease
from windlass.worker.logs import Shipper
from windlass.worker.reporter import Reporter

log = structlog.get_logger("worker")

#: Seconds between tries to stop an attempt while its engine is away.
STOP_AGAIN_S = 0.5
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


def ticket_of(launch: Launch, folder: Path, trace: TraceContext | None = None, *, rebooted: bool = False) -> Ticket:
    """The driver's view of a launch."""
    own = folder / launch.attempt_id
    return Ticket(launch.attempt_id, launch.job_id, launch.number, launch.fence, launch.spec, own, trace, rebooted)


def _span(launch: Launch, received_at: float) -> Span:
    """The span of an attempt, from when its launch came until its end. The attempt before is linked."""
    parent = parse(launch.traceparent, launch.tracestate) if launch.traceparent else None
    if parent is None or not tracing.on():
        return Span(parent)
    task, number = task_of(launch.job_id), launch.number
    about = {"windlass.job.id": launch.job_id, "windlass.attempt.id": launch.attempt_id}
    return tracing.begin(
        "attempt",
        parent,
        kind="consumer",
        span_id=attempt_span(task, number),
        attributes=about | {"windlass.attempt.number": number, "windlass.driver": launch.spec.driver.value},
        links=[parent.under(attempt_span(task, number - 1))] if number > 1 else [],
        began_s=time.time() - (clock.now() - received_at),
    )


class Run:
    """The life of one attempt here."""

    def __init__(self, bench: Bench, driver: Driver, launch: Launch, received_at: float) -> None:
        self._bench, self._driver, self.launch = bench, driver, launch
        self.span = _span(launch, received_at)
        entry = bench.journal.entries.get(launch.attempt_id)
        rebooted = entry is not None and entry.rebooted
        self.ticket = ticket_of(launch, bench.folder, self.span.context, rebooted=rebooted)
        self._received_at = received_at
        self._started_at: float | None = None
        self._stop = None if entry is None else entry.stop
        self._stopping: asyncio.Task[None] | None = None
        self._grace_s = launch.spec.stop_grace
        self._gone = False
        self._running, self._seen_start, self._pausing = False, False, False
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
            await self._finish(self._end(*(self._stop or (fault.cause, fault.message))))
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
        elif self._stopping is None or self._stopping.done() or self._pausing:
            self.let_go()
            self._pausing = False
            self._stopping = asyncio.create_task(self._halt())

    def fence(self, why: str) -> None:
        """This node is cut off, and its attempts are about to run elsewhere: end it now where no watchdog does."""
        if not self._driver.watched:
            self._grace_s = 0.0
            self.stop(Cause.NODE_LOST, why)

    def let_go(self) -> None:
        """Its agent counts on it no more: a stop still under way is not waited for."""
        if self._stopping is not None:
            self._stopping.cancel()

    async def _halt(self) -> None:
        with contextlib.suppress(OSError):  # why is on the disk first: a power cut must not make it the job's failure
            await self._bench.journal.sync()
        pause = STOP_AGAIN_S
        while not self._gone:
            try:
                await self._driver.stop(self.ticket, self._grace_s)
                return
            except EngineUnavailable as error:
                log.warning("stop_waits", attempt_id=self.ticket.attempt_id, error=str(error))
            self._pausing = True
            await asyncio.sleep(pause)
            pause, self._pausing = min(2 * pause, REMOVE_MOST_S), False

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
            return self._end(*(self._stop or (fault.cause, fault.message)))  # a start may fail of a stop
        except EngineUnavailable as error:
            return self._end(Cause.REJECTED, str(error))
        return self._end(*self._stop) if self._stop and not self._running else None

    async def _prepare(self) -> None:
        with self.span.child("prepare"):
            await asyncio.gather(self._driver.prepare(self.ticket), self._noted())
        if self._stop is not None:
            return
        if self._bench.lease is not None and self._bench.lease.stale:
            raise EngineUnavailable("the node is cut off: it has had no word from Redis or the API")
        self._running = True
        await self._driver.start(self.ticket)
        self._started_at, self._seen_start = clock.now(), True
        metrics.START.observe(self._started_at - self._received_at)
        self._bench.reporter.started(self.ticket.attempt_id, self._started_at)
        self._stop_again()

    async def _noted(self) -> None:
        """Its launch is on the disk before it runs: after a power cut its node must not take the order that comes again
        for a new one."""
        try:
            await self._bench.journal.sync()
        except OSError as error:
            raise EngineUnavailable(f"the node can't note what it runs: {error.strerror}") from None

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
                    with self.span.child("run"):
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
        if self._stop is not None and not self._in_time(outcome):
            cause, message = self._stop
            return self._end(cause, message, outcome.exit_code)
        return self._end(outcome.cause, outcome.message, outcome.exit_code)

    def _in_time(self, outcome: Outcome) -> bool:
        """Whether it had ended by itself before its limit passed: with worker or engine away, the limit may be what is
        heard of first. Only where it is known how long it ran; a signal may be the stop's, under a clock set back."""
        if self._stop is None or self._stop[0] is not Cause.TIMEOUT or outcome.cause is Cause.SIGNAL:
            return False
        return self._seen_start and outcome.ran_s is not None and 0 <= outcome.ran_s < min(self._ahead(), default=0)

    def _ahead(self) -> dict[float, str]:
        """Its limits: so many seconds after its start, and what to say then."""
        spec, found = self.launch.spec, dict[float, str]()
        if spec.attempt_timeout is not None:
            found[spec.attempt_timeout] = f"attempt_timeout of {spec.attempt_timeout:g} s passed"
        if self.launch.deadline_in is not None:
            began = self._started_at or clock.now()
            left = self._received_at + self.launch.deadline_in - began
            found[left] = f"job_deadline of {spec.job_deadline or 0:g} s passed"
        return found

    @contextlib.asynccontextmanager
    async def _limits(self) -> AsyncGenerator[None]:
        """While inside, the attempt is stopped when a time limit passes."""
        loop, since = asyncio.get_running_loop(), clock.now() - (self._started_at or clock.now())
        timers = [
            loop.call_later(max(limit - since, 0), self.stop, Cause.TIMEOUT, message)
            for limit, message in self._ahead().items()
        ]
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
        self._close_span(ended)

    def _close_span(self, ended: Ended) -> None:
        code = {} if ended.exit_code is None else {"process.exit.code": ended.exit_code}
        fault = ended.cause is not None and ended.cause not in (Cause.CANCELLED, Cause.DRAINED)
        outcome = {"windlass.outcome": "succeeded" if ended.cause is None else ended.cause.value}
        self.span.end(ended.cause.value if fault and ended.cause else "", code | outcome)

    async def clear(self) -> None:
        """Remove what is left of it, once its outcome is kept elsewhere."""
        pause = REMOVE_FIRST_S
        while True:
            try:
                if self._driver.keeps_outcome:
                    await self._bench.journal.sync()
                await self._driver.remove(self.ticket)
                return
            except DriverFault as fault:
                log.warning("remove_failed", attempt_id=self.ticket.attempt_id, error=fault.message)
                return
            except (EngineUnavailable, OSError) as error:  # both come back, perhaps before anyone has seen them away
                log.warning("remove_waits", attempt_id=self.ticket.attempt_id, error=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, REMOVE_MOST_S)
