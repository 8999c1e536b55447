"""Intake: jobs on their way into the ledger. Requests that wait at the same time share one transaction, so a commit's
cost is divided among them; a lone one goes at once. Nobody hears yes before the commit.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg

from windlass import crash
from windlass.core.ids import JobId
from windlass.core.placement.snapshot import shape_of
from windlass.errors import IdempotencyMismatch, Unavailable
from windlass.metrics.jobs import SUBMITTED
from windlass.store import jobs
from windlass.store.audit import By
from windlass.store.db import Pool, borrow
from windlass.store.jobs import NewJob
from windlass.store.shapes import Shapes
from windlass.stream import wire
from windlass.stream.produce import Producer, StreamDown

BATCH = 1000
#: Seconds a submit waits for the ledger's yes; past them it is told to try again.
PATIENCE_S = 5.0
WRITERS = 2
_LOWEST = -1000


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job's id, and when it was accepted; None for one that an earlier request with the same key has made."""

    id: JobId
    created_at: datetime | None


Result = Accepted | IdempotencyMismatch | Unavailable


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """Jobs that came together, who wants them, and where the answer goes."""

    wanted: Sequence[NewJob]
    by: By
    done: asyncio.Future[list[Result]]


class Intake:
    """One per API process; `run` writes until cancelled."""

    def __init__(self, pool: Pool, producer: Producer) -> None:
        self._pool, self._producer = pool, producer
        self._shapes = Shapes()
        self._queue: deque[_Request] = deque()
        self._some = asyncio.Event()
        self._ringing: asyncio.Task[None] | None = None
        self._ring_again = False
        self._arrived: set[int] = set()
        self._highest = _LOWEST

    async def submit(self, wanted: Sequence[NewJob], by: By) -> list[Result]:
        """Accept these, all or none; in order, with one record of who wanted them. Raises Unavailable."""
        done: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        entry = _Request(wanted, by, done)
        self._queue.append(entry)
        self._some.set()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await done
        except TimeoutError:
            if entry in self._queue:
                self._queue.remove(entry)
            raise Unavailable(f"PostgreSQL has not taken the job within {PATIENCE_S:g} s") from None

    async def run(self) -> None:
        """Write what comes, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            await self._some.wait()
            batch: list[_Request] = []
            count = 0
            while self._queue and (not batch or count + len(self._queue[0].wanted) <= BATCH):
                batch.append(self._queue.popleft())
                count += len(batch[-1].wanted)
            if not self._queue:
                self._some.clear()
            if batch:
                await self._accept(batch)

    async def _accept(self, batch: list[_Request]) -> None:
        wanted = [job for request in batch for job in request.wanted]
        try:
            accepted, at = await self._written(wanted, [request.by for request in batch for _ in request.wanted])
            keys = [job.key for job in wanted if job.key is not None and job.id not in accepted]
            holders = await self._holders(keys) if keys else {}
            results = [[_result(job, accepted, at, holders) for job in request.wanted] for request in batch]
        except Exception as error:
            if isinstance(error, psycopg.DataError) and len(batch) > 1:
                for one in batch:  # one of them is at fault: let each stand for itself
                    await self._accept([one])
            else:
                _fail(batch, error)
            return
        crash.point("submit.committed")
        SUBMITTED.inc(len(accepted))
        self._ring(wanted)
        for request, answer in zip(batch, results, strict=True):
            if not request.done.done():
                request.done.set_result(answer)

    async def _written(self, wanted: Sequence[NewJob], by: Sequence[By]) -> tuple[frozenset[JobId], datetime]:
        """Which of these are in the ledger now by our doing, and since when. Raises Unavailable.

        When the answer to the commit was lost, the ledger is asked what happened; nothing is written blindly again."""
        try:
            async with borrow(self._pool) as conn:
                return await jobs.submit(conn, wanted, self._shapes, by)
        except Unavailable:
            async with borrow(self._pool) as conn:
                ids, at = await jobs.found(conn, [job.id for job in wanted])
            if at is None:
                raise
            return ids, at

    async def _holders(self, keys: Sequence[str]) -> dict[str, jobs.KeyHolder]:
        async with borrow(self._pool) as conn:
            return await jobs.holders(conn, keys)

    def _ring(self, accepted: Sequence[NewJob]) -> None:
        """Let the leader know, without making anybody wait for it."""
        self._arrived |= self._shapes.known({shape_of(job.spec) for job in accepted})
        self._highest = max(self._highest, max(job.spec.priority for job in accepted))
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._tell())
        else:
            self._ring_again = True

    async def _tell(self) -> None:
        while True:
            self._ring_again = False
            shapes, self._arrived = tuple(self._arrived), set[int]()
            highest, self._highest = self._highest, _LOWEST
            with suppress(StreamDown):  # the leader looks by itself once a second
                await self._producer.report([wire.Bell("jobs", shapes, highest)])
            if not self._ring_again:
                return


def _fail(batch: Sequence[_Request], error: Exception) -> None:
    for request in batch:
        if not request.done.done():
            request.done.set_exception(error)


def _result(job: NewJob, accepted: frozenset[JobId], at: datetime, holders: Mapping[str, jobs.KeyHolder]) -> Result:
    if job.id in accepted:
        return Accepted(job.id, at)
    holder = holders.get(job.key or "")
    if holder is None:
        return Unavailable(f"the job of Idempotency-Key {job.key!r} was deleted at this moment; try again")
    if holder.fingerprint != job.fingerprint:
        return IdempotencyMismatch(job.key or "", holder.id)
    return Accepted(holder.id, None)
