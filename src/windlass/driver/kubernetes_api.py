"""One session with a Kubernetes API server: deadlines around every call, and one place that sorts its errors.

By hand over aiohttp, which aiodocker brings anyway: eight calls (decision record 0010).
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from windlass.driver.base import AnswerLost, EngineUnavailable
from windlass.driver.kubernetes_access import Access

T = TypeVar("T")

CALL_S = 30.0
CONNECT_S = 5.0
_READ_BUFFER = 64 * 1024
_LATER = frozenset({401, 408, 429})  # a token that is being renewed; too many at once


class ApiRefusal(Exception):
    """The API server says no: its status, its one-word reason, its sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""


class Version(msgspec.Struct):
    """The part of GET /version that matters here."""

    git: str = msgspec.field(name="gitVersion", default="")
    major: str = "0"
    minor: str = "0"

    @property
    def numbers(self) -> tuple[int, int]:
        """Major and minor; managed clusters write the latter as "32+"."""
        minor = "".join(letter for letter in self.minor if letter.isdecimal())
        return int(self.major or 0), int(minor or 0)


class Api:
    """Calls below one namespace."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._session: aiohttp.ClientSession | None = None

    async def version(self) -> Version:
        """What the server is. Raises EngineUnavailable, ApiRefusal."""
        return await self.call("GET", "/version", Version, whole_path=True, deadline_s=CONNECT_S)

    async def close(self) -> None:
        """Let go of every connection, streams included."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # aiohttp closes its transports one loop turn later

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        deadline_s: float = CALL_S,
        content_type: str = "application/json",
        whole_path: bool = False,
    ) -> T:
        """One call, answered within deadline_s; `path` is below the namespace. Raises ApiRefusal, EngineUnavailable."""
        timeout = aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_S)
        where = path if whole_path else self._below(path)
        async with self._request(method, where, timeout, params, body, content_type) as response:
            raw = await response.read()
        if answer is None:
            return None  # pyright: ignore[reportReturnType] -- without `answer` nothing is promised
        try:
            return msgspec.json.decode(raw, type=answer)
        except msgspec.DecodeError as fault:
            raise EngineUnavailable(f"the Kubernetes API server sent something else: {fault}") from fault

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, silent_s: float | None = None
    ) -> AsyncGenerator[aiohttp.StreamReader, None]:
        """A long answer, read piece by piece; given up after silent_s without a byte."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silent_s)
        async with self._request("GET", self._below(path), timeout, params, None, "") as response:
            yield response.content

    def _below(self, path: str) -> str:
        return f"/api/v1/namespaces/{self.access.namespace}{path}"

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        timeout: aiohttp.ClientTimeout,
        params: Mapping[str, str] | None,
        body: object,
        content_type: str,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        headers = {"Accept": "application/json", **self.access.token.header()}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            async with self._opened().request(
                method,
                self.access.url + path,
                params=params,
                data=None if body is None else msgspec.json.encode(body),
                headers=headers,
                timeout=timeout,
                read_bufsize=_READ_BUFFER,
            ) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await response.read())
                yield response
        except aiohttp.ClientConnectorError as fault:
            raise EngineUnavailable(f"the Kubernetes API server does not answer: {fault}") from fault
        except TimeoutError as late:
            raise AnswerLost(f"the Kubernetes API server did not answer {method} {path} in time") from late
        except (aiohttp.ClientError, OSError) as fault:
            raise AnswerLost(f"the Kubernetes API server does not answer: {fault}") from fault

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No limit of connections: each live log is one. `ssl` of True is what aiohttp does by itself.
            connector = aiohttp.TCPConnector(ssl=self.access.tls or True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


def _refusal(status: int, raw: bytes) -> Exception:
    try:
        told = msgspec.json.decode(raw, type=_Status)
    except msgspec.DecodeError:
        told = _Status(raw.decode(errors="replace")[:500])
    if status >= 500 or status in _LATER:
        return EngineUnavailable(f"the Kubernetes API server answers {status}: {told.message}")
    return ApiRefusal(status, told.reason, told.message)


def pod(name: str, verb: str = "") -> str:
    """The path of a Pod, or of something below it."""
    return f"/pods/{name}{verb}"


def equal(labels: Mapping[str, Any]) -> str:
    """A selector of what has all these labels."""
    return ",".join(f"{key}={value}" for key, value in labels.items())
