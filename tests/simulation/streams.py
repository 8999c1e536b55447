"""Redis as programs see it: streams and groups in memory, behind a client with the few calls the stream layer uses.

It may forget everything, refuse, be gone for a while, and lose, double or shuffle entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.simulation.network import LATER, Call
from tests.simulation.process import alive

if TYPE_CHECKING:
    from tests.simulation.world import World

Id = tuple[int, int]
Fields = dict[bytes, bytes]
#: Longer than the stream layer waits.
PATIENCE_S = 60.0


def _text(place: Id) -> bytes:
    return b"%d-%d" % place


def _id(text: bytes | str) -> Id:
    raw = text.encode() if isinstance(text, str) else text
    ms, _, seq = raw.partition(b"-")
    return int(ms), int(seq or 0)


@dataclass
class Group:
    last: Id
    #: handed out and not acknowledged, in order: how many times
    pending: dict[Id, int] = field(default_factory=dict)


@dataclass
class Stream:
    entries: dict[Id, Fields] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    last: Id = (0, 0)


@dataclass(eq=False)
class Waiter:
    """A read that blocks."""

    call: Call
    read: Callable[[], Any]
    done: bool = False


class StreamServer:
    """The server. Shares are probabilities per entry that is added: lost, doubled, set behind the next one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.streams: dict[str, Stream] = {}
        self.up = True
        #: writes are refused with this, as READONLY or OOM would
        self.refusal = ""
        self.lost_share = self.doubled_share = 0.0
        self._waiters: dict[str, list[Waiter]] = {}

    def connect(self, url: str) -> Client:
        """In place of windlass.stream.produce.connect."""
        return Client(self._world, self)

    def stop(self) -> None:
        """As a kill -9: all is forgotten unless `keep`, and readers that wait are cut off."""
        self.up = False
        self._release(RedisConnectionError("Connection closed by server."))

    def flush(self) -> None:
        """FLUSHALL. Readers that wait are told that their stream is gone."""
        self.streams.clear()
        self._release(ResponseError("UNBLOCKED the stream key no longer exists"), groups_only=True)

    def _release(self, error: Exception, *, groups_only: bool = False) -> None:
        for key, waiters in self._waiters.items():
            for waiter in waiters:
                if groups_only and key.endswith(":news"):
                    continue
                self._finish(waiter, None, error)
            waiters[:] = [w for w in waiters if not w.done]

    def _finish(self, waiter: Waiter, result: Any, error: Exception | None) -> None:
        if not waiter.done:
            waiter.done = True
            self._world.network.reply(waiter.call, result, error)

    # -- commands ---------------------------------------------------------------------------------------------------

    def command(self, call: Call, name: str, *args: Any) -> Any:
        """Raises what Redis answers."""
        if not self.up:
            raise RedisConnectionError("Error 111 connecting. Connection refused.")
        if name in ("xadd", "xgroup_create", "xack", "xdel") and self.refusal:
            raise ResponseError(self.refusal)
        return getattr(self, f"_{name}")(call, *args)

    def pipeline(self, call: Call, commands: list[tuple[Any, ...]]) -> list[Any]:
        """As redis-py does: all are carried out, the first fault is raised."""
        results: list[Any] = []
        fault: Exception | None = None
        for name, *args in commands:
            try:
                results.append(self.command(call, name, *args))
            except ResponseError as error:
                fault = fault or error
        if fault is not None:
            raise fault
        return results

    def _xadd(self, call: Call, key: str, fields: Fields, maxlen: int) -> bytes:
        stream = self.streams.setdefault(key, Stream())
        random = self._world.random.random
        stream.last = max((int(self._world.loop.now * 1000) + 1, 0), (stream.last[0], stream.last[1] + 1))
        if not (self.lost_share and random() < self.lost_share):
            stream.entries[stream.last] = fields
            if self.doubled_share and random() < self.doubled_share:
                stream.last = (stream.last[0], stream.last[1] + 1)
                stream.entries[stream.last] = fields
        while len(stream.entries) > maxlen:
            del stream.entries[next(iter(stream.entries))]
        self._wake(key)
        return _text(stream.last)

    def _wake(self, key: str) -> None:
        waiters = self._waiters.get(key)
        if waiters:
            for waiter in waiters:
                if waiter.call.given_up or waiter.call.process.dead:
                    waiter.done = True  # its connection is closed
                    continue
                found = waiter.read()
                if found:
                    self._finish(waiter, found, None)
            waiters[:] = [w for w in waiters if not w.done]

    def _xack(self, call: Call, key: str, group: str, *ids: bytes) -> int:
        known = self.streams.get(key, Stream()).groups.get(group)
        return 0 if known is None else sum(known.pending.pop(_id(i), 0) > 0 for i in ids)

    def _xdel(self, call: Call, key: str, *ids: bytes) -> int:
        entries = self.streams.get(key, Stream()).entries
        return sum(entries.pop(_id(i), None) is not None for i in ids)

    def _xgroup_create(self, call: Call, key: str, group: str, place: str) -> bool:
        stream = self.streams.setdefault(key, Stream())
        if group in stream.groups:
            raise ResponseError("BUSYGROUP Consumer Group name already exists")
        stream.groups[group] = Group(stream.last if place == "$" else _id(place))
        return True

    def _xrevrange(self, call: Call, key: str, most: int) -> list[tuple[bytes, Fields]]:
        entries = self.streams.get(key, Stream()).entries
        return [(_text(place), entries[place]) for place in list(entries)[-most:]][::-1]

    def _xread(self, call: Call, key: str, place: bytes, most: int, block_s: float) -> Any:
        after = _id(place)

        def read() -> Any:
            entries = self.streams.get(key, Stream()).entries
            found = [(_text(p), f) for p, f in entries.items() if p > after][:most]
            return {key.encode(): [found]} if found else None

        return read() or self._wait(call, key, read, block_s)

    def _known(self, key: str, group: str) -> tuple[Stream, Group]:
        stream = self.streams.get(key)
        if stream is None or group not in stream.groups:
            raise ResponseError(f"NOGROUP No such key '{key}' or consumer group '{group}'")
        return stream, stream.groups[group]

    def _xpending(self, call: Call, key: str, group: str, start: bytes, most: int) -> list[dict[str, Any]]:
        after = (0, 0) if start == b"-" else _id(start.removeprefix(b"("))
        pending = [(p, times) for p, times in self._known(key, group)[1].pending.items() if p > after]
        return [{"message_id": _text(p), "times_delivered": times} for p, times in pending[:most]]

    def _ping(self, call: Call) -> bool:
        return True

    def _expire(self, call: Call, key: str, seconds: int) -> bool:
        return key in self.streams  # no world lives so long

    def _xreadgroup(self, call: Call, key: str, group: str, place: bytes, most: int, block_s: float) -> Any:
        stream, mine = self._known(key, group)
        if place != b">":
            after = _id(place)
            again = [p for p in mine.pending if p > after][:most]
            mine.pending.update({p: mine.pending[p] + 1 for p in again})
            return {key.encode(): [[(_text(p), stream.entries.get(p)) for p in again]]}

        def read() -> Any:
            stream, mine = self._known(key, group)
            fresh = [(p, f) for p, f in stream.entries.items() if p > mine.last][:most]
            for p, _ in fresh:
                mine.last = max(mine.last, p)
                mine.pending[p] = 1
            return {key.encode(): [[(_text(p), f) for p, f in fresh]]} if fresh else None

        return read() or self._wait(call, key, read, block_s)

    def _wait(self, call: Call, key: str, read: Callable[[], Any], block_s: float) -> Any:
        """Until there is something, or the time is over."""
        waiter = Waiter(call, read)
        self._waiters.setdefault(key, []).append(waiter)
        self._world.loop.at(self._world.loop.now + block_s, self._expired, key, waiter)
        return LATER

    def _expired(self, key: str, waiter: Waiter) -> None:
        self._finish(waiter, None, None)
        if waiter in self._waiters[key]:
            self._waiters[key].remove(waiter)


class Client:
    """As much of redis.asyncio.Redis as the stream layer uses."""

    def __init__(self, world: World, server: StreamServer) -> None:
        self._world, self._server = world, server
        self._process = alive()

    async def call(self, serve: Callable[[Call], Any]) -> Any:
        """Raises what redis-py raises."""
        process = alive()
        if not self._server.up and "stream" not in process.host.cut:
            await asyncio.sleep(0.001)
            raise RedisConnectionError("Error 111 connecting. Connection refused.")
        future: asyncio.Future[Any] = self._world.loop.create_future()

        def answer(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            elif isinstance(error, TimeoutError):
                future.set_exception(RedisConnectionError("timed out"))
            else:
                future.set_exception(error)

        call = Call(process, "stream", serve, answer, self._world.loop.now, PATIENCE_S)
        self._world.network.send(call)
        try:
            return await future
        except asyncio.CancelledError:
            call.given_up = True  # redis-py closes the connection
            raise

    async def execute_command(self, *command: Any) -> Any:
        name, *args = command
        options = {str(args[i]): args[i + 1] for i in range(len(args) - 1)}
        key, place = args[-2], args[-1]
        most, block_s = int(options["COUNT"]), int(options["BLOCK"]) / 1000
        if name == "XREADGROUP":
            return await self.call(lambda c: self._server.command(c, "xreadgroup", key, args[1], place, most, block_s))
        assert name == "XREAD", f"the simulation does not know {name}"
        return await self.call(lambda c: self._server.command(c, "xread", key, place, most, block_s))

    @property
    def connection_pool(self) -> Client:
        return self

    async def disconnect(self, inuse_connections: bool = True) -> None:
        return

    async def ping(self) -> Any:
        return await self.call(lambda c: self._server.command(c, "ping"))

    async def xpending_range(self, key: str, group: str, start: bytes, end: str, count: int, consumer: str) -> Any:
        return await self.call(lambda c: self._server.command(c, "xpending", key, group, start, count))

    async def xack(self, key: str, group: str, *ids: bytes) -> Any:
        return await self.call(lambda c: self._server.command(c, "xack", key, group, *ids))

    async def xdel(self, key: str, *ids: bytes) -> Any:
        return await self.call(lambda c: self._server.command(c, "xdel", key, *ids))

    async def xgroup_create(self, key: str, group: str, id: str = "$", mkstream: bool = False) -> Any:
        return await self.call(lambda c: self._server.command(c, "xgroup_create", key, group, id))

    async def xrevrange(self, key: str, count: int) -> Any:
        return await self.call(lambda c: self._server.command(c, "xrevrange", key, count))

    def pipeline(self, transaction: bool = True) -> Pipeline:
        assert not transaction
        return Pipeline(self, self._server, self._world)

    async def aclose(self) -> None:
        return


class Pipeline:
    """Commands that go together."""

    def __init__(self, client: Client, server: StreamServer, world: World) -> None:
        self._client, self._server, self._world = client, server, world
        self._commands: list[tuple[Any, ...]] = []

    def xadd(self, key: str, fields: Fields, maxlen: int = 0, approximate: bool = True) -> None:
        self._commands.append(("xadd", key, fields, maxlen))

    def xack(self, key: str, group: str, *ids: bytes) -> None:
        self._commands.append(("xack", key, group, *ids))

    def xdel(self, key: str, *ids: bytes) -> None:
        self._commands.append(("xdel", key, *ids))

    def expire(self, key: str, seconds: int) -> None:
        self._commands.append(("expire", key, seconds))

    async def execute(self) -> list[Any]:
        self._world.note("redis", [(c[0], c[1]) for c in self._commands])
        return await self._client.call(lambda call: self._server.pipeline(call, self._commands))
