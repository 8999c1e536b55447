"""The edge every request passes: a request id, the host check, and the request metrics."""

import re
import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlass.api import problems
from windlass.mint import new_id

REQUESTS = Counter("windlass_api_requests_total", "Requests by route and status.", ["method", "route", "status"])
SECONDS = Histogram(
    "windlass_api_request_seconds",
    "Time to the response's first byte, by route.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:]*)(:\d+)?", re.ASCII | re.IGNORECASE)


class Edge:
    """ASGI middleware. `hosts` are the names served; None serves any. A page of another name that was pointed at a
    loopback address (DNS rebinding) is turned away."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        mine = given if _ID.fullmatch(given) else new_id("req")
        token = problems.request_id.set(mine)
        began = time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", mine.encode())]
                _count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        try:
            if self._hosts is not None and not self._serves(headers.get(b"host", b"")):
                fault = problems.problem(421, "this host name is not served; call the API by its own name")
                await problems.answer(fault)(scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        finally:
            problems.request_id.reset(token)

    def _serves(self, host: bytes) -> bool:
        found = _HOST.fullmatch(host.decode("latin-1"))
        return self._hosts is not None and found is not None and found[1].lower().strip("[]") in self._hosts


def _count(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "OTHER"
    REQUESTS.labels(method, route, str(status)).inc()
    SECONDS.labels(method, route).observe(seconds)
