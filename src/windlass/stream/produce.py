"""Writing to streams: one pipelined round trip for any number of messages. Failures are the caller's to repair by
sweep, so they come as StreamDown and nothing else."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from windlass.core.ids import NodeId
from windlass.errors import WindlassError
from windlass.stream.keys import BACKLOG_LENGTH, FIELD, NEWS_LENGTH, Keys
from windlass.stream.wire import CommandOut, Message, News, Report, encode

#: Longer than any read blocks.
ANSWER_S = 8.0


class StreamDown(WindlassError):
    """Redis does not answer, or not sensibly. Nothing is lost: the ledger has it."""


def connect(redis_url: str) -> Redis:
    """A client for writing, and for reading by one reader only. Its answers are waited for through `heeding` alone."""
    return Redis.from_url(
        redis_url,
        socket_timeout=None,  # redis-py's own makes a task of every send, and can swallow a cancel
        socket_connect_timeout=3,
        retry=Retry(NoBackoff(), 0),  # an outage is told, not hidden: the sweep repairs it
        decode_responses=False,
    )


async def heeding(answer: Awaitable[Any]) -> Any:
    """What redis-py answers, within ANSWER_S seconds. A cancel that it keeps to itself on the way is raised behind it,
    or its task would never end. Raises TimeoutError."""
    task = asyncio.current_task()
    async with asyncio.timeout(ANSWER_S):
        before = task.cancelling() if task else 0
        try:
            return await answer
        finally:
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError


@dataclass(frozen=True, slots=True)
class Receipt:
    """Entries that were read and need not be kept: committed, or decided to be nothing."""

    key: str
    group: str
    ids: Sequence[bytes]


class Producer:
    """Sends messages to the leader, to nodes and to API processes."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def report(self, messages: Sequence[Report]) -> None:
        """To the leader. Raises StreamDown."""
        await self.send(reports=messages)

    async def send(
        self,
        *,
        reports: Sequence[Report] = (),
        commands: Mapping[NodeId, Sequence[CommandOut]] | None = None,
        news: Sequence[News] = (),
        read: Receipt | None = None,
    ) -> None:
        """All of it in one round trip, and the receipt for what was read, if given. Raises StreamDown."""
        entries: list[tuple[str, Sequence[Message], int]] = []
        if reports:
            entries.append((self._keys.leader, reports, BACKLOG_LENGTH))
        for node_id, orders in (commands or {}).items():
            entries.append((self._keys.node(node_id), orders, BACKLOG_LENGTH))
        if news:
            entries.append((self._keys.news, news, NEWS_LENGTH))
        if not entries and (read is None or not read.ids):
            return
        try:
            pipe = self._redis.pipeline(transaction=False)
            for key, messages, length in entries:
                pipe.xadd(key, {FIELD: encode(messages)}, maxlen=length, approximate=True)
            if read is not None and read.ids:
                pipe.xack(read.key, read.group, *read.ids)
                pipe.xdel(read.key, *read.ids)
            await heeding(cast("Awaitable[Any]", pipe.execute()))
        except (RedisError, OSError, TimeoutError) as error:
            raise StreamDown(f"Redis does not take messages: {error or type(error).__name__}") from error
