"""A TCP proxy that misbehaves when told to: a bad network between two roles, on one machine and without root.

It listens on loopback (or on a Unix socket) and forwards to a server. Its `weather` can be changed at any time and
counts for what is under way, too. One answer of the server's can be lost for sure: see `lose_answer`.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

#: host and port, or a Unix socket
Address = tuple[str, int] | Path

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to bytes. Up is from client to server. Rates are bytes a second, each way."""

    #: new connections are refused, those there are reset
    refuse: bool = False
    #: bytes are swallowed, and no end of a connection is told: half-open. What lost bytes carries none ever after.
    drop_up: bool = False
    drop_down: bool = False
    #: nothing passes, and all that came meanwhile is delivered afterwards: a partition shorter than TCP's patience
    hold: bool = False
    #: seconds each chunk is late
    delay_s: float = 0.0
    rate: float | None = None
    #: each connection is reset once so many bytes have come down: in the middle of a frame
    reset_after: int | None = None


PASS = Weather()
REFUSE = Weather(refuse=True)
DROP = Weather(drop_up=True, drop_down=True)
DROP_UP = Weather(drop_up=True)
DROP_DOWN = Weather(drop_down=True)
HOLD = Weather(hold=True)


class Ear(Protocol):
    """Understands one connection's protocol as far as losing an answer needs it. Bytes come in any pieces."""

    def asked(self, piece: bytes) -> list[str]:
        """What the client asks in the messages that this piece completes."""
        ...

    def answered(self, piece: bytes) -> bool:
        """Whether the server's answer is complete with this piece."""
        ...


class PlainEar:
    """For any protocol: each piece is a message, and any bytes are an answer."""

    def asked(self, piece: bytes) -> list[str]:
        """The piece as text, a byte a character."""
        return [piece.decode("latin-1")]

    def answered(self, piece: bytes) -> bool:
        """Any piece will do."""
        return bool(piece)


@dataclass(slots=True)
class _Loss:
    """An order to lose the answer to the nth message that has `text` in it."""

    text: str
    nth: int
    lost: asyncio.Event


class Proxy:
    """Use as `async with Proxy(("127.0.0.1", 5432)) as proxy:`, then connect to `proxy.port`."""

    def __init__(
        self, target: Address, *, listen: Address = ("127.0.0.1", 0), ear: Callable[[], Ear] = PlainEar
    ) -> None:
        self._target, self._listen, self.ear = target, listen, ear
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._changed = asyncio.Event()
        self.weather = PASS
        self.loss: _Loss | None = None

    @property
    def port(self) -> int:
        """Where it listens, when on TCP; the same after a refusal."""
        assert isinstance(self._listen, tuple)
        return self._listen[1]

    @property
    def links(self) -> int:
        """Connections now."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._shut()
        self.reset()
        await asyncio.gather(*self._links, return_exceptions=True)
        if isinstance(self._listen, Path):
            self._listen.unlink(missing_ok=True)

    async def change(self, weather: Weather) -> None:
        """From now on, for what is under way too. Raises OSError when the port was taken during a refusal."""
        self.weather = weather
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if weather.refuse:
            self._shut()
            self.reset()
        elif self._server is None:
            await self._open()

    def reset(self) -> None:
        """Cut every connection with an RST."""
        for task, link in self._links.items():
            link.abort()
            task.cancel()

    def lose_answer(self, text: str, nth: int = 1) -> asyncio.Event:
        """The nth message from now on with `text` in it reaches the server; its answer does not reach the client,
        whose connection is reset when the answer comes. The event is set then. The client can't know what happened."""
        self.loss = _Loss(text, nth, asyncio.Event())
        return self.loss.lost

    async def changed(self) -> None:
        """Until the weather changes next."""
        await self._changed.wait()

    async def _open(self) -> None:
        if isinstance(self._listen, Path):
            self._listen.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self._listen)
            return
        self._server = await asyncio.start_server(self._accept, *self._listen)
        host, port, *_ = self._server.sockets[0].getsockname()
        self._listen = (str(host), int(port))

    def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(self, reader, writer)
        self._links[task] = link
        try:
            await link.run(self._target)
        except (OSError, asyncio.CancelledError):
            pass  # the end of a connection, however it came, is the client's to notice
        finally:
            link.abort()
            del self._links[task]


class _Link:
    """One client's connection and ours to the server on its behalf."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._server: asyncio.StreamWriter | None = None
        self._ear = proxy.ear()
        self._torn = {"up": False, "down": False}
        self._losing: _Loss | None = None
        self._down = 0

    async def run(self, target: Address) -> None:
        """Carry bytes until both sides have ended. Raises OSError."""
        if isinstance(target, Path):
            reader, writer = await asyncio.open_unix_connection(target)
        else:
            reader, writer = await asyncio.open_connection(*target)
        self._server = writer
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry("up", self._reader, writer))
                group.create_task(self._carry("down", reader, self._writer))
        except ExceptionGroup as several:
            raise ConnectionError(str(several)) from several

    def abort(self) -> None:
        """Close both sides at once, with an RST where there is one."""
        for writer in (self._writer, self._server):
            if writer is not None:
                _linger_not(writer)
                writer.transport.abort()

    async def _carry(self, way: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while True:
            rate = self._proxy.weather.rate
            piece = await source.read(_CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10))))
            await self._weather(len(piece))
            if self._swallowed(way, piece):
                if not piece:
                    await asyncio.Event().wait()  # half-open: the other side is never told
                continue
            if not piece:
                with suppress(OSError):
                    sink.write_eof()
                return
            if way == "down":
                self._count(len(piece))
            sink.write(piece)
            await sink.drain()

    async def _weather(self, size: int) -> None:
        while self._proxy.weather.hold:
            await self._proxy.changed()
        now = self._proxy.weather
        late = now.delay_s + (size / now.rate if now.rate else 0.0)
        if late:
            await asyncio.sleep(late)

    def _swallowed(self, way: str, piece: bytes) -> bool:
        now = self._proxy.weather
        self._torn[way] |= now.drop_up if way == "up" else now.drop_down
        if self._torn[way]:
            return True
        if way == "up":
            self._listen(piece)
            return False
        return self._lost(piece)

    def _listen(self, piece: bytes) -> None:
        """Look for the message whose answer is to be lost. What the client says is passed on all the same."""
        asked = self._ear.asked(piece)
        loss = self._proxy.loss
        if loss is None:
            return
        loss.nth -= sum(loss.text in text for text in asked)
        if loss.nth <= 0:
            self._losing, self._proxy.loss = loss, None

    def _lost(self, piece: bytes) -> bool:
        """Whether this belongs to the answer that is to be lost; once it is complete, the connection is cut."""
        complete = self._ear.answered(piece)
        if self._losing is None:
            return False
        if complete or not piece:
            self._losing.lost.set()
            raise ConnectionResetError("the answer was lost on purpose")
        return True

    def _count(self, size: int) -> None:
        self._down += size
        limit = self._proxy.weather.reset_after
        if limit is not None and self._down > limit:
            raise ConnectionResetError("cut in the middle on purpose")


def _linger_not(writer: asyncio.StreamWriter) -> None:
    """Have the kernel send an RST at the close, and forget what was not sent."""
    found = writer.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
