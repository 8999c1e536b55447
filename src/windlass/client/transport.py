"""HTTP: the only file that knows httpx2.

A call is repeated by itself only when that is safe: when the request never left, or when the caller said that doing it
twice is the same as once (`again`). Every call has a time limit. An event stream that is cut goes on behind the last
event it gave.
"""

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from windlass.client.errors import ApiError, ClientError, Problem, Unexpected, Unreachable, api_error
from windlass.http import HttpClient, trusting

T = TypeVar("T")
Params = list[tuple[str, str | int | float | bool | None]]

KEEP_ALIVE_S = 15.0
"""A healthy event stream says something at least this often."""

_TRANSIENT = frozenset({429, 502, 503, 504})
_MAX_EVENT_BYTES = 16 * 2**20


def _connection(url: str, ca_file: str | None) -> dict[str, Any]:
    """How to connect: plain HTTP loads no certificates (that takes longer than the call), loopback knows no proxy."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not the URL of an API; write it as http://127.0.0.1:8000")
    loopback = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    verify: bool | ssl.SSLContext = True
    if parts.scheme == "http" and loopback:
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elif ca_file:
        verify = trusting(ca_file)
    return {"base_url": url.rstrip("/"), "trust_env": not loopback, "verify": verify}


class Transport:
    """One connection pool to one API. `timeout` is seconds for a call's answer, `patience` for a lost stream."""

    def __init__(
        self, url: str, token: str | None, ca_file: str | None, timeout: float, retries: int, patience: float
    ) -> None:
        headers = {"Accept": "application/json", "User-Agent": "windlass-python"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = HttpClient(**_connection(url, ca_file), headers=headers, timeout=timeout)
        self.url, self.patience, self._timeout, self._retries = url, patience, timeout, retries

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
        extra_s: float = 0,
    ) -> bytes:
        """The body of a 2xx answer, waiting extra_s seconds more than usual. Raises ApiError, Unreachable."""
        content = None if body is None else msgspec.json.encode(body)
        sent = {"Content-Type": "application/json"} if content is not None else {}
        request = self._http.build_request(
            method, path, params=params, content=content, headers={**sent, **(headers or {})},
            timeout=httpx2.Timeout(self._timeout, read=self._timeout + extra_s),
        )  # fmt: skip
        for attempt in range(self._retries + 1):
            try:
                response = await self._http.send(request)
                if response.is_success:
                    return response.content
                raise _refusal(response)
            except httpx2.TransportError as fault:
                error: ClientError = self._unreachable(fault)
                safe = again or isinstance(fault, httpx2.ConnectError | httpx2.ConnectTimeout)
            except ApiError as refused:
                error, safe = refused, again and refused.status in _TRANSIENT
            pause = _pause(attempt, error)
            if not safe or attempt == self._retries or pause is None:
                raise error
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def stream(
        self, path: str, params: Params, last_id: str | None = None
    ) -> AsyncGenerator[tuple[str, str], None]:
        """(event, data) of a server-sent stream, for ever: a cut one is taken up again behind the last id.

        Raises Unreachable when it could not be taken up for `patience` seconds; ApiError when the API refuses.
        """
        failures, met = 0, False
        lost: float | None = None
        while True:
            try:
                async with aclosing(self._connect(path, params, last_id)) as events:
                    async for event in events:
                        met, lost = True, None
                        if event is not None:
                            failures, last_id = 0, event.id or last_id
                            yield event.event, event.data
                error: ClientError = Unreachable(self.url, "the stream was closed")
            except httpx2.TransportError as fault:
                error = self._unreachable(fault)
            except ApiError as refused:
                if refused.status not in _TRANSIENT and not (met and refused.status >= 500):
                    raise
                error = refused
            lost = lost or time.monotonic()
            tries_left = met or failures < self._retries
            if not tries_left or time.monotonic() - lost > self.patience:
                raise error
            await asyncio.sleep(_pause(min(failures, 5), error) or self._timeout)
            failures += 1

    async def _connect(
        self, path: str, params: Params, last_id: str | None
    ) -> AsyncGenerator[httpx2.ServerSentEvent | None, None]:
        """One connection's events, after a None that tells that it stands."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
            # What is left to read is behind the id; a tail counted from the end would cut into it.
            params = [(key, value) for key, value in params if key != "tail"]
        timeout = httpx2.Timeout(self._timeout, read=3 * KEEP_ALIVE_S)
        async with self._http.stream("GET", path, params=params, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                await response.aread()
                raise _refusal(response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Unexpected(f"{self.url} does not answer as a Windlass API does")
            yield None
            async for event in httpx2.EventSource(response, max_event_size=_MAX_EVENT_BYTES):
                yield event

    def decode(self, body: bytes, kind: type[T]) -> T:
        """The body as a typed value. Raises Unexpected."""
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as fault:
            raise Unexpected(f"{self.url} does not answer as a Windlass API does: {fault}") from None

    def _unreachable(self, fault: httpx2.TransportError) -> Unreachable:
        match fault:
            case httpx2.ConnectError():
                why = _system_word(fault)
            case httpx2.TimeoutException():
                why = f"no answer within {self._timeout:g} s"
            case _:
                why = str(fault) or "the connection was cut"
        return Unreachable(self.url, why)


def _system_word(fault: BaseException) -> str:
    """The operating system's reason, which is in an inner cause, in its own words."""
    inner: BaseException | None = fault
    while inner is not None:
        if isinstance(inner, ssl.SSLError):
            return f"no TLS with it: {inner.reason or inner}"
        if isinstance(inner, socket.gaierror):
            return str(inner.strerror).lower()
        if isinstance(inner, OSError) and inner.errno is not None and inner.errno > 0:
            return os.strerror(inner.errno).lower()
        inner = inner.__cause__ or inner.__context__
    return str(fault)


def _refusal(response: httpx2.Response) -> ClientError:
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        problem = Problem(title=response.reason_phrase)
    if response.status_code == 404 and not problem.code:  # ours carry one, whatever is missing
        return Unexpected(f"there is no Windlass API at {response.url}")
    problem = msgspec.structs.replace(problem, status=response.status_code)
    after = response.headers.get("retry-after", "")
    return api_error(problem, float(after) if after.isdigit() else None)


def _pause(attempt: int, error: ClientError) -> float | None:
    """Seconds before the next try: 0.1, 0.2, 0.4 … ± a half, or as the server asked; None when that is too long."""
    asked = error.retry_after if isinstance(error, ApiError) else None
    if asked is not None and asked > 30:
        return None
    return max(asked or 0, 0.1 * 2**attempt * random.uniform(0.5, 1.5))
