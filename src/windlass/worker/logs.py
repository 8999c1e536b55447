"""Output on its way from a driver to the log store: capped per stream, in batches over HTTP, each byte once.

Of each stream the first half of the cap is sent as it comes, the last half is held back and sent at the end, with a
mark of what is missing between. So memory is bounded by half a cap per stream, however much a job prints.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import httpx2
import msgspec
import structlog

from windlass.core.ids import AttemptId
from windlass.driver.base import Chunk, Driver, Ticket
from windlass.metrics import worker as metrics

log = structlog.get_logger("worker")

BATCH_BYTES = 512 * 1024
QUEUE_BYTES = 4 * 2**20
PIECE_BYTES = 64 * 1024
PATH = "/v1/internal/logs"


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A chunk as it travels; `missing` > 0 marks a gap."""

    attempt_id: AttemptId
    stream: str
    start: int
    missing: int
    data: bytes


@dataclass(slots=True)
class Cap:
    """One stream's budget. Chunks come in order; past the head there may be holes."""

    stream: str
    limit: int
    base: int = 0  # what a former agent has already sent
    tail: bytearray = field(default_factory=bytearray)
    end: int = 0  # where the tail ends

    def take(self, chunk: Chunk) -> list[Chunk]:
        """What of this chunk may be sent now; the rest is held, the oldest of it dropped past the limit."""
        head = self.limit // 2
        room = max(0, head - chunk.offset)
        now, rest = chunk.data[:room], chunk.data[room:]
        if rest:
            if chunk.offset > self.end:  # a hole: what is held from before it is too old to be sent
                self.tail.clear()
            self.tail += rest
            self.end = chunk.offset + len(chunk.data)
            del self.tail[: max(0, len(self.tail) - (self.limit - head))]
        return [Chunk(self.stream, chunk.offset, now)] if now else []

    def close(self) -> tuple[tuple[int, int] | None, list[Chunk]]:
        """The gap (start, bytes missing), if there is one, and what was held."""
        start, known = self.end - len(self.tail), max(self.limit // 2, self.base)
        gap = (known, start - known) if start > known else None
        pieces = range(0, len(self.tail), PIECE_BYTES)
        return gap, [Chunk(self.stream, start + i, bytes(self.tail[i : i + PIECE_BYTES])) for i in pieces]


class Shipper:
    """Sends pieces of any number of attempts to the API, in order; holds back readers when the API is slow."""

    def __init__(self, http: httpx2.AsyncClient, cap_bytes: int) -> None:
        self._http, self._cap = http, cap_bytes
        self._queue: deque[Piece] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._sent = 0  # pieces, ever
        self._queued = 0
        self._moved = asyncio.Condition()
        self._warned = False

    @property
    def waiting(self) -> int:
        """Bytes that wait for the API."""
        return self._bytes

    async def run(self) -> None:
        """Send what comes, for ever; tries again until the API takes it."""
        while True:
            await self._ready.wait()
            batch: list[Piece] = []
            size = 0
            while self._queue and size < BATCH_BYTES and len(batch) < 1000:
                batch.append(self._queue.popleft())
                size += len(batch[-1].data)
            if not self._queue:
                self._ready.clear()
            if batch:
                await self._post(batch)
                metrics.LOG_BYTES.inc(size)
                self._bytes -= size
                if self._bytes < QUEUE_BYTES:
                    self._room.set()
                async with self._moved:
                    self._sent += len(batch)
                    self._moved.notify_all()

    async def _post(self, batch: list[Piece]) -> None:
        body = msgspec.msgpack.encode(batch)
        pause = 0.1
        while True:
            try:
                answer = await self._http.post(PATH, content=body, headers={"content-type": "application/msgpack"})
                if answer.status_code < 300:
                    self._warned = False
                    return
                if answer.status_code in (400, 403, 413, 422):
                    log.error("log_refused", status=answer.status_code, answer=answer.text[:200])
                    return
                fault = f"the API answered {answer.status_code}"
            except httpx2.HTTPError as error:
                fault = str(error) or type(error).__name__
            if not self._warned:
                self._warned = True
                log.warning("log_waits", error=fault, bytes=self._bytes)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _put(self, attempt_id: AttemptId, chunk: Chunk, missing: int = 0) -> None:
        await self._room.wait()
        self._queue.append(Piece(attempt_id, chunk.stream, chunk.offset, missing, chunk.data))
        self._queued += 1
        self._bytes += len(chunk.data)
        if self._bytes >= QUEUE_BYTES:
            self._room.clear()
        self._ready.set()

    async def ship(self, driver: Driver, ticket: Ticket, *, resume: bool) -> None:
        """Everything an attempt prints; returns once it has ended and the API has it all. With `resume`, goes on
        from where the store says a former agent stopped."""
        caps: dict[str, Cap] = {}
        after = await self._stored(ticket.attempt_id) if resume else {}
        async for chunk in driver.logs(ticket, after):
            cap = caps.get(chunk.stream)
            if cap is None:
                cap = caps[chunk.stream] = Cap(chunk.stream, self._cap, after.get(chunk.stream, 0))
            for piece in cap.take(chunk):
                await self._put(ticket.attempt_id, piece)
        for stream, cap in caps.items():
            gap, rest = cap.close()
            if gap is not None:
                await self._put(ticket.attempt_id, Chunk(stream, gap[0], b""), missing=gap[1])
            for chunk in rest:
                await self._put(ticket.attempt_id, chunk)
        if caps:
            await self._flushed(self._queued)

    async def _stored(self, attempt_id: AttemptId) -> dict[str, int]:
        """How many bytes of each stream the store has; asks until it is told."""
        pause = 0.1
        while True:
            try:
                answer = await self._http.get(f"{PATH}/{attempt_id}")
                if answer.status_code == 200:
                    return msgspec.json.decode(answer.content, type=dict[str, int])
            except httpx2.HTTPError as error:
                log.warning("log_offsets_wait", error=str(error) or type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _flushed(self, mark: int) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._sent >= mark)
