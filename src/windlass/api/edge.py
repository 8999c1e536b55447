"""The edge every request passes: a request id, its place in a trace, the host check, and the request metrics.

What the door counts as one too many is turned away here, so that it has them, too.
"""

import re
import time
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from windlass import tracing
from windlass.api import problems
from windlass.api.door import CROWDED
from windlass.core.trace import parse
from windlass.metrics.api import METHODS, REQUESTS, SECONDS
from windlass.mint import new_id
from windlass.tracing import Span

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:]*)(:\d+)?", re.ASCII | re.IGNORECASE)

log = structlog.get_logger("api")


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
        visit = _Visit(scope, send, mine, _span(scope, headers))
        trace = visit.span.context
        token, place = problems.request_id.set(mine), tracing.current.set(visit.span)
        try:
            with bound_contextvars(request_id=mine, **({"trace_id": trace.trace_id} if trace else {})):
                await self._answer(visit, headers, receive)
        finally:
            visit.over()
            tracing.current.reset(place)
            problems.request_id.reset(token)

    async def _answer(self, visit: "_Visit", headers: dict[bytes, bytes], receive: Receive) -> None:
        if visit.scope.get("state", {}).get(CROWDED):
            fault = problems.problem(503, "too many connections are open here; try again, on fewer of them")
            more = {"Retry-After": str(problems.RETRY_AFTER_S), "Connection": "close"}
            await problems.answer(fault, more)(visit.scope, receive, visit.send)
            return
        if self._hosts is not None and not self._serves(headers.get(b"host", b"")):
            fault = problems.problem(421, "this host name is not served; call the API by its own name")
            await problems.answer(fault)(visit.scope, receive, visit.send)
            return
        try:
            await self._app(visit.scope, receive, visit.send)
        except Exception as error:
            log.error("request_failed", method=visit.scope["method"], path=visit.scope["path"], exc_info=error)
            if visit.status:
                raise  # too late for another answer: the connection is cut
            await problems.answer(problems.of(error))(visit.scope, receive, visit.send)

    def _serves(self, host: bytes) -> bool:
        found = _HOST.fullmatch(host.decode("latin-1"))
        return self._hosts is not None and found is not None and found[1].lower().strip("[]") in self._hosts


@dataclass(slots=True)
class _Visit:
    """One request on its way through. `status` is 0 until it is answered."""

    scope: Scope
    to: Send
    id: str
    span: Span
    began: float = 0.0
    status: int = 0

    def __post_init__(self) -> None:
        self.began = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Send on, with the request's id on it; count the answer as it begins."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id.encode())]
            _count(self.scope, self.status, time.perf_counter() - self.began)
        await self.to(message)

    def over(self) -> None:
        """End its span."""
        if not tracing.on():
            return
        method, route = _named(self.scope)
        self.span.note(f"{method} {route}", {"http.request.method": method, "http.route": route})
        about = {"http.response.status_code": self.status, "windlass.request.id": self.id}
        self.span.end("failed" if self.status >= 500 else "", about)


def _span(scope: Scope, headers: dict[bytes, bytes]) -> Span:
    """The request's span below the one its client told of; a context that is not valid counts for nothing."""
    parent = None
    if b"traceparent" in headers:
        told = [value for name, value in scope["headers"] if name == b"traceparent"]
        states = b",".join(value for name, value in scope["headers"] if name == b"tracestate")
        parent = parse(told[0].decode("latin-1"), states.decode("latin-1")) if len(told) == 1 else None
    path: str = scope["path"]
    if not path.startswith("/v1/") or path.startswith("/v1/internal/"):  # what roles and probes ask is nobody's trace
        return Span(parent)
    return tracing.begin(scope["method"], parent, kind="server")


def _named(scope: Scope) -> tuple[str, str]:
    method = scope["method"] if scope["method"] in METHODS else "OTHER"
    return method, getattr(scope.get("route"), "path", "none")


def _count(scope: Scope, status: int, seconds: float) -> None:
    method, route = _named(scope)
    REQUESTS.labels(method, route, f"{status // 100}xx").inc()
    SECONDS.labels(method, route).observe(seconds)
