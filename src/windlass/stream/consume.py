"""Reading streams. A reader owns its connection, blocks at most `block_s`, and heals a group that vanished (FLUSHALL,
an empty restart) by making it again from the beginning: claims are decided in the ledger, so an entry seen twice is
harmless and one never seen is repaired by the sweep.

An entry that was handed out again and again and never got its receipt is poison: whoever reads it dies of it. It is
parked: told in the log, and deleted.
"""

import time
from collections.abc import Awaitable, Sequence
from typing import Any, Generic, TypeVar, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from windlass import metrics
from windlass.stream.keys import CONSUMER, FIELD
from windlass.stream.outage import ANSWER_S, Health, Line, StreamDown
from windlass.stream.produce import Receipt
from windlass.stream.wire import Reader

log = structlog.get_logger("stream")

#: Entries read at once. A full batch means that more may wait.
COUNT = 500
#: An entry handed out more often than this without a receipt is parked.
DELIVERIES = 5
#: Seconds after which a reader looks again for what its name was handed and it never got: a former reader that was
#: frozen in the middle of a read takes what comes until it is noticed.
LOOK_AGAIN_S = 30.0
#: From this many on it is under suspicion, and read alone, so that others don't share its fate.
SUSPECT = 3

T = TypeVar("T")
Entry = tuple[bytes, dict[bytes, bytes] | None]
_Answer = dict[bytes, list[list[Entry]]] | list[tuple[bytes, list[Entry]]] | None


async def _entries(redis: Redis, key: str, *command: str | bytes | int) -> list[Entry]:
    """One stream's entries from an answer of XREAD or XREADGROUP, in the form of either protocol version."""
    answer: _Answer = await cast("Awaitable[Any]", redis.execute_command(*command))
    if not answer:
        return []
    return answer[key.encode()][0] if isinstance(answer, dict) else answer[0][1]


def _vanished(error: ResponseError) -> bool:
    """Whether the group is no more; a reader that was waiting for it is told UNBLOCKED by some servers."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))


class GroupReader(Generic[T]):
    """One consumer of one stream's group. Entries stay pending until their receipt is sent."""

    def __init__(self, redis: Redis, key: str, group: str, reader: Reader[T], health: Health | None = None) -> None:
        self._redis, self._key, self._group, self._reader = redis, key, group, reader
        self._line = Line(redis, health or Health(), f"to read {key}")
        self._from: bytes = b"0"  # first what an earlier consumer of this name left pending, then what is new
        self._read: list[bytes] = []
        self._looked = time.monotonic()
        self.recreated = 0
        #: whether the last read took all there was: no backlog, and nothing inherited
        self.drained = False

    @property
    def down(self) -> bool:
        """Whether the last read failed."""
        return self._line.down

    async def read(self, block_s: float, count: int = COUNT) -> list[T]:
        """The next messages, or none after block_s seconds. While Redis is away it waits for as long, then raises
        StreamDown."""
        self.drained = False
        await self._line.opened(block_s)
        if not self._read and time.monotonic() - self._looked > LOOK_AGAIN_S:
            self._from, self._looked = b"0", time.monotonic()
        try:
            entries = await self._line.ask(lambda: self._next(block_s, count), block_s + ANSWER_S)
        except StreamDown:
            self._from = b"0"  # the server may have handed out what never came here
            raise
        self._read += [entry_id for entry_id, _ in entries]
        skipped = self._reader.skipped
        messages = self._reader.read([fields[FIELD] for _, fields in entries if fields and FIELD in fields])
        if self._reader.skipped > skipped:
            self._line.health.noted("unreadable", self._reader.skipped - skipped)
        return messages

    async def _next(self, block_s: float, count: int) -> list[Entry]:
        try:
            if self._from != b">":
                entries = await self._inherited(count)
                if entries:
                    return entries
            entries = await self._group_read(block_s, count)
            self.drained = len(entries) < count
            return entries
        except ResponseError as error:
            if not _vanished(error):
                raise
            await self._recreate()
            return []

    async def _inherited(self, count: int) -> list[Entry]:
        """What an earlier consumer of this name read and never finished, in portions."""
        start = b"-" if self._from == b"0" else b"(" + self._from
        pending = cast(
            "list[dict[str, Any]]",
            await self._redis.xpending_range(self._key, self._group, start, "+", count, CONSUMER),
        )
        for one in pending:
            if one["times_delivered"] > DELIVERIES:
                await self._park(one["message_id"])
        suspects = any(SUSPECT <= one["times_delivered"] <= DELIVERIES for one in pending)
        entries = await self._group_read(0, 1 if suspects else count)
        self._from = entries[-1][0] if entries else b">"
        return entries

    async def _group_read(self, block_s: float, count: int) -> list[Entry]:
        block = max(1, int(block_s * 1000))
        command = ("XREADGROUP", "GROUP", self._group, CONSUMER, "COUNT", count, "BLOCK", block)
        return await _entries(self._redis, self._key, *command, "STREAMS", self._key, self._from)

    async def _park(self, entry_id: bytes) -> None:
        log.error("entry_parked", key=self._key, entry_id=entry_id.decode(), deliveries=f"more than {DELIVERIES}")
        metrics.REPAIRS.labels(kind=metrics.POISON_ENTRY).inc()
        await self._redis.xack(self._key, self._group, entry_id)
        await self._redis.xdel(self._key, entry_id)

    async def _recreate(self) -> None:
        try:
            await self._redis.xgroup_create(self._key, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self.recreated += 1
        if self.recreated > 1:
            self._line.health.noted("groups_made_again")
        self._from = b"0"

    def receipt(self) -> Receipt:
        """For all that was read since the last receipt; send it once that is dealt with."""
        ids, self._read = self._read, []
        return Receipt(self._key, self._group, ids)

    def keep(self, receipt: Receipt) -> None:
        """A receipt that could not be sent: it goes with the next one."""
        self._read = [*receipt.ids, *self._read]

    def close(self) -> None:
        """Let go of the connection, which is the owner's to close."""
        self._line.close()


class NewsReader(Generic[T]):
    """Reads a stream without a group, from now on. Whoever misses something looks again by the clock."""

    def __init__(self, redis: Redis, key: str, reader: Reader[T], health: Health | None = None) -> None:
        self._redis, self._key, self._reader = redis, key, reader
        self._line = Line(redis, health or Health(), f"to read {key}")
        self._from: bytes | None = None

    async def read(self, block_s: float) -> Sequence[T]:
        """The next messages, or none after block_s seconds. While Redis is away it waits for as long, then raises
        StreamDown."""
        await self._line.opened(block_s)
        try:
            entries = await self._line.ask(lambda: self._next(block_s), block_s + ANSWER_S)
        except StreamDown:
            self._from = None
            raise
        return self._reader.read([fields[FIELD] for _, fields in entries if fields and FIELD in fields])

    async def _next(self, block_s: float) -> list[Entry]:
        if self._from is None:
            last: Any = await self._redis.xrevrange(self._key, count=1)
            self._from = cast("bytes", last[0][0]) if last else b"0-0"
        block = max(1, int(block_s * 1000))
        command = ("XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", self._key)
        entries = await _entries(self._redis, self._key, *command, self._from)
        if entries:
            self._from = entries[-1][0]
        return entries

    def close(self) -> None:
        """Let go of the connection, which is the owner's to close."""
        self._line.close()
