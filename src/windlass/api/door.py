"""The door: what a connection may take before there is a request. The server itself sets no bounds there: whoever
opened connections and said nothing, or never came to an end, would keep everybody else out.

Who is turned away here is told why by a problem with a request id, as everywhere.
"""

from asyncio import TimerHandle, Transport

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from windlass.api import problems
from windlass.metrics.api import REQUESTS
from windlass.mint import new_id

log = structlog.get_logger("api")

#: Connections that are served; a request on one more is answered by the edge, and its connection closed.
CONNECTIONS = 2000
#: Under this name the edge finds in a request's state whether it came on one of those.
CROWDED = "crowded"
#: Seconds for a request's first line and headers, from the connection's opening or the request's first byte, and for
#: its body from there on.
HEAD_S = 10.0
BODY_S = 60.0
HEAD_BYTES = 64 * 1024


class Door(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, within those bounds; who is beyond them is cut off."""

    _clock: TimerHandle | None = None
    _head = 0
    _in_head = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wind(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wind(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head = self._head + len(data) if self._in_head else 0
        if self._in_head and self._clock is None:
            self._wind(HEAD_S)
        super().data_received(data)
        if self._in_head and self._head > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wind(HEAD_S)

    def on_headers_complete(self) -> None:
        self._in_head, self._head = False, 0
        self._wind(BODY_S)
        self.scope.setdefault("state", {})[CROWDED] = len(self.connections) > CONNECTIONS
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._wind(None)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """There is no request that the edge could see; `msg` is for a server's own log."""
        mine = new_id("req")
        token = problems.request_id.set(mine)
        try:
            answer = problems.answer(
                problems.problem(400, "this is no HTTP request; call the API by http:// or https://")
            )
        finally:
            problems.request_id.reset(token)
        log.info("request_not_understood", request_id=mine, client=self.client and self.client[0])
        REQUESTS.labels("OTHER", "none", "4xx").inc()
        headers = [*answer.raw_headers, (b"connection", b"close"), (b"x-request-id", mine.encode())]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def _wind(self, seconds: float | None) -> None:
        """Cut the connection off after so many seconds, unless wound again before; None: not at all."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if seconds is not None:
            self._clock = self.loop.call_later(seconds, self.transport.abort)
