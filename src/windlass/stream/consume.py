"""Reading streams. A reader owns its connection, blocks at most `block_s`, and heals a group that vanished (FLUSHALL,
an empty restart) by making it again from the beginning: claims are decided in the ledger, so an entry seen twice is
harmless and one never seen is repaired by the sweep.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, Generic, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from windlass.stream.keys import CONSUMER, FIELD
from windlass.stream.produce import Receipt, StreamDown, heeding
from windlass.stream.wire import Reader

T = TypeVar("T")
Entry = tuple[bytes, dict[bytes, bytes] | None]
_Answer = dict[bytes, list[list[Entry]]] | list[tuple[bytes, list[Entry]]] | None


async def _entries(redis: Redis, key: str, *command: str | bytes | int) -> list[Entry]:
    """One stream's entries from an answer of XREAD or XREADGROUP, in the form of either protocol version."""
    answer: _Answer = await heeding(cast("Awaitable[Any]", redis.execute_command(*command)))
    if not answer:
        return []
    return answer[key.encode()][0] if isinstance(answer, dict) else answer[0][1]


class GroupReader(Generic[T]):
    """One consumer of one stream's group. Entries stay pending until their receipt is sent."""

    def __init__(self, redis: Redis, key: str, group: str, reader: Reader[T]) -> None:
        self._redis, self._key, self._group, self._reader = redis, key, group, reader
        self._from: bytes = b"0"  # first what an earlier consumer of this name left pending, then what is new
        self._read: list[bytes] = []
        self.recreated = 0

    async def read(self, block_s: float, count: int = 500) -> list[T]:
        """The next messages, or none after block_s seconds. Raises StreamDown."""
        try:
            entries = await self._next(block_s, count)
            if self._from != b">":
                if entries:
                    self._from = entries[-1][0]
                else:
                    self._from = b">"
                    entries = await self._next(block_s, count)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise StreamDown(f"Redis refuses to read {self._key}: {error}") from error
            await self._recreate()
            return []
        except (RedisError, OSError, TimeoutError) as error:
            raise StreamDown(f"Redis does not answer: {error or type(error).__name__}") from error
        self._read += [entry_id for entry_id, _ in entries]
        return self._reader.read([fields[FIELD] for _, fields in entries if fields and FIELD in fields])

    async def _next(self, block_s: float, count: int) -> list[Entry]:
        block = max(1, int(block_s * 1000))
        command = ("XREADGROUP", "GROUP", self._group, CONSUMER, "COUNT", count, "BLOCK", block)
        return await _entries(self._redis, self._key, *command, "STREAMS", self._key, self._from)

    async def _recreate(self) -> None:
        try:
            await heeding(self._redis.xgroup_create(self._key, self._group, id="0", mkstream=True))
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise StreamDown(f"Redis refuses the group of {self._key}: {error}") from error
        except (RedisError, OSError, TimeoutError) as error:
            raise StreamDown(f"Redis does not answer: {error or type(error).__name__}") from error
        self.recreated += 1
        self._from = b"0"

    def receipt(self) -> Receipt:
        """For all that was read since the last receipt; send it once that is dealt with."""
        ids, self._read = self._read, []
        return Receipt(self._key, self._group, ids)


class NewsReader(Generic[T]):
    """Reads a stream without a group, from now on. Whoever misses something looks again by the clock."""

    def __init__(self, redis: Redis, key: str, reader: Reader[T]) -> None:
        self._redis, self._key, self._reader = redis, key, reader
        self._from: bytes | None = None

    async def read(self, block_s: float) -> Sequence[T]:
        """The next messages, or none after block_s seconds. Raises StreamDown."""
        try:
            place = self._from
            if place is None:
                last: Any = await heeding(self._redis.xrevrange(self._key, count=1))
                place = self._from = last[0][0] if last else b"0-0"
            block = max(1, int(block_s * 1000))
            command = ("XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", self._key)
            entries = await _entries(self._redis, self._key, *command, place)
        except (RedisError, OSError, TimeoutError) as error:
            self._from = None
            raise StreamDown(f"Redis does not answer: {error or type(error).__name__}") from error
        if not entries:
            return []
        self._from = entries[-1][0]
        return self._reader.read([fields[FIELD] for _, fields in entries if fields and FIELD in fields])
