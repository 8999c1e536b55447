"""Lines of JSON to and from the watchdog, those of one turn of the loop sent together."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from windlass.driver.base import EngineUnavailable

CALL_S = 10.0
ANSWER = "n"  # the number of what is answered


class Line(asyncio.Protocol):
    """One connection. Pass on the greeting and the ends as they are read, in their order: the greeting is the state
    that the ends change. `greeted` is done once the greeting was taken in."""

    def __init__(
        self,
        greeting: "Callable[[Line, dict[str, Any]], None]",
        ended: Callable[[dict[str, Any]], None],
        lost: "Callable[[Line], None]",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self.lost, self.closed = False, asyncio.Event()
        self._tell_greeting, self._tell_ended, self._tell_lost = greeting, ended, lost
        self._transport: asyncio.Transport | None = None
        self._read, self._unsent = b"", list[bytes]()
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "end" in message:
                self._tell_ended(message)
            elif ANSWER in message:
                waiting = self._asked.pop(message[ANSWER], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            elif not self.greeted.done():
                self._tell_greeting(self, message)
                self.greeted.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.closed.set()
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(EngineUnavailable("the watchdog has died"))
        if not self.greeted.done():
            self.greeted.set_exception(OSError("the watchdog hung up"))
        else:
            self._tell_lost(self)

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Its answer. Raises TimeoutError, and EngineUnavailable when the connection breaks."""
        self._number += 1
        number = self._number
        answer = self._asked[number] = self._loop.create_future()
        self.send(message | {"n": number})
        try:
            async with asyncio.timeout(CALL_S):
                return await answer
        finally:
            self._asked.pop(number, None)

    def send(self, message: dict[str, Any]) -> None:
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(json.dumps(message).encode() + b"\n")

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.lost and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))

    def close(self) -> None:
        """Send what is queued, and nothing after it."""
        if self._transport is not None:
            self._flush()
            self._transport.close()
        self.lost = True

    def drop(self) -> None:
        """Let go at once: what was not sent by now never will be, and nothing more is sent or heard."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
