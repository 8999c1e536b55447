"""Writing to streams: one pipelined round trip for any number of messages. Failures are the caller's to repair by
sweep, so they come as StreamDown and nothing else."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from windlass.core.ids import NodeId
from windlass.stream.keys import BACKLOG_LENGTH, FIELD, NEWS_LENGTH, NODE_TTL_S, Keys
from windlass.stream.outage import Health, Line, StreamDown
from windlass.stream.wire import CommandOut, Message, News, Report, encode

__all__ = ["Producer", "Receipt", "StreamDown", "connect"]


def connect(redis_url: str, login: tuple[str, str] | None = None) -> Redis:
    """A client for writing, and for reading by one reader only. Its answers are waited for through `heeding` alone.
    `login` is user and password; those of the URL count more."""
    user, password = login or (None, None)
    return Redis.from_url(
        redis_url,
        username=user,
        password=password,
        socket_timeout=None,  # redis-py's own makes a task of every send, and can swallow a cancel
        socket_connect_timeout=3,
        retry=Retry(NoBackoff(), 0),  # an outage is told, not hidden: the sweep repairs it
        decode_responses=False,
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """Entries that were read and need not be kept: committed, or decided to be nothing."""

    key: str
    group: str
    ids: Sequence[bytes]


class Producer:
    """Sends messages to the leader, to nodes and to API processes."""

    def __init__(self, redis: Redis, keys: Keys, health: Health | None = None) -> None:
        self._redis, self._keys = redis, keys
        self._line = Line(redis, health or Health(), "messages")

    @property
    def health(self) -> Health:
        return self._line.health

    @property
    def down(self) -> bool:
        """Whether the last send failed."""
        return self._line.down

    async def opened(self, within_s: float) -> None:
        """Returns when it is worth while to send again, or after within_s seconds."""
        await self._line.opened(within_s)

    def close(self) -> None:
        """Let go of the connection, which is the owner's to close."""
        self._line.close()

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
        await self._line.ask(lambda: self._execute(entries, read))

    async def _execute(self, entries: Sequence[tuple[str, Sequence[Message], int]], read: Receipt | None) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for key, messages, length in entries:
            pipe.xadd(key, {FIELD: encode(messages)}, maxlen=length, approximate=True)
            if self._keys.is_node(key):
                pipe.expire(key, NODE_TTL_S)
        if read is not None and read.ids:
            pipe.xack(read.key, read.group, *read.ids)
            pipe.xdel(read.key, *read.ids)
        await cast("Awaitable[Any]", pipe.execute())
