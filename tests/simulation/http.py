"""HTTP between workers, users and the API: requests are handed to the real route functions in an API process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tests.simulation.network import LATER, Call
from tests.simulation.process import Process, alive
from windlass.api import internal
from windlass.api.deps import Services
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from tests.simulation.world import World

Work = Callable[[Services], Awaitable[Any]]


class Door:
    """Where requests arrive: whichever API process serves now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.serving: tuple[Process, Services] | None = None
        #: every request is answered 503, as by a proxy in front of nothing
        self.refusing = False

    async def ask(self, work: Work, timeout_s: float = 30.0) -> Any:
        """Run this in the API. Raises what it raises, or httpx2.TransportError."""
        future: asyncio.Future[Any] = self._world.loop.create_future()

        def answer(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if isinstance(error, TimeoutError):
                future.set_exception(httpx2.ReadTimeout("the API does not answer"))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        call = Call(alive(), "api", lambda call: self._serve(call, work), answer, self._world.loop.now, timeout_s)
        self._world.network.send(call)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            call.given_up = True
            raise httpx2.ReadTimeout("the API does not answer") from None

    def _serve(self, call: Call, work: Work) -> Any:
        if self.serving is None or self.serving[0].dead:
            raise httpx2.ConnectError("connection refused")
        process, services = self.serving
        if self.refusing:
            raise httpx2.RemoteProtocolError("the server disconnected")

        async def handle() -> None:
            try:
                result, error = await work(services), None
            except Exception as fault:
                result, error = None, fault
            self._world.network.reply(call, result, error)

        def gone() -> None:
            self._world.network.reply(call, None, httpx2.RemoteProtocolError("the server disconnected"))

        self._world.loop.create_task(handle(), context=process.context.copy())
        process.at_end.append(gone)
        return LATER


@dataclass
class Request:
    """As much of starlette's as the internal routes use."""

    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    async def stream(self) -> AsyncGenerator[bytes]:
        yield self.content

    async def body(self) -> bytes:
        return self.content


class Client:
    """As much of httpx2.AsyncClient as the worker uses."""

    def __init__(self, door: Door, timeout: float = 30.0) -> None:
        self._door, self._timeout = door, timeout

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def aclose(self) -> None:
        return

    async def post(self, path: str, *, content: bytes, headers: Any = None, timeout: float | None = None) -> Any:
        route = {"/v1/internal/logs": internal.append}.get(path)
        if route is None:
            route = getattr(internal, path.rsplit("/", 1)[1])
        return await self._ask(lambda services: route(Request(content, headers or {}), services), timeout)

    async def get(self, path: str, *, timeout: float | None = None) -> Any:
        attempt_id = path.rsplit("/", 1)[1]
        return await self._ask(lambda services: internal.stored(services, attempt_id), timeout)

    async def _ask(self, work: Work, timeout: float | None) -> httpx2.Response:
        async def route(services: Services) -> httpx2.Response:
            try:
                response: Response = await work(services)
            except HTTPException as error:
                return httpx2.Response(error.status_code, text=str(error.detail))
            except WindlassError as error:
                return httpx2.Response(503, text=str(error))
            return httpx2.Response(response.status_code, content=bytes(response.body))

        return await self._door.ask(route, timeout or self._timeout)
