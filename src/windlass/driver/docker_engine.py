"""One connection to a Docker Engine: deadlines around every call, and one place that sorts its errors.

aiodocker finds the engine (contexts, DOCKER_HOST, TLS, ssh, the usual sockets) and holds the session. The calls
themselves go through that session here, because each needs a deadline, a typed answer, and an error sorted into "the
engine is away" (EngineUnavailable) or "the engine says no" (aiodocker.DockerError with its status and words).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import aiodocker
import aiohttp
import msgspec

from windlass.driver.base import AnswerLost, EngineUnavailable

T = TypeVar("T")

CALL_S = 30.0  # deadline of a plain call
CONNECT_S = 5.0  # deadline to reach the engine at all
_NEWEST_KNOWN = (1, 52)
_AWAY = frozenset({502, 503, 504})
_READ_BUFFER = 64 * 1024  # a stream holds at most twice this before the socket itself pushes back


class Version(msgspec.Struct):
    """The part of GET /version that matters here."""

    engine: str = msgspec.field(name="Version")
    api: str = msgspec.field(name="ApiVersion")
    oldest_api: str = msgspec.field(name="MinAPIVersion", default="1.24")
    components: list[dict[str, Any]] = msgspec.field(name="Components", default_factory=list[dict[str, Any]])


class Engine:
    """A session with one Docker Engine. `url` as in DOCKER_HOST; None looks where the docker command looks."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._docker: aiodocker.Docker | None = None
        self._session: aiohttp.ClientSession | None = None
        self._base = ""

    async def open(self) -> Version:
        """Connect and agree on an API version. Again on an open one: only asks. Raises EngineUnavailable."""
        if self._docker is None or self._session is None:
            self._docker = _find(self._url)
            self._session = _session(self._docker)
        version = await self._version(self._session, self._docker.docker_host)
        self._base = f"{self._docker.docker_host}/v{negotiate(version.api, version.oldest_api)}"
        return version

    async def close(self) -> None:
        """Let go of every connection, streams included."""
        docker, session = self._docker, self._session
        self._docker = self._session = None
        if docker is not None and session is not None:
            await session.close()
            await docker.close()
            await asyncio.sleep(0)  # aiohttp closes its transports one loop turn later

    async def accepts(self) -> bool:
        """Whether the engine takes new connections. One that shuts down goes on answering on those it has."""
        path = self.socket
        if path is None or self._docker is None:
            return True
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as fresh:
            try:
                await self._version(fresh, self._docker.docker_host)
            except EngineUnavailable:
                return False
        return True

    @property
    def socket(self) -> str | None:
        """The path of the engine's unix socket; None when it is reached otherwise."""
        connector = self._docker.connector if self._docker else None
        return connector.path if isinstance(connector, aiohttp.UnixConnector) else None

    @property
    def address(self) -> str | None:
        """Where the watchdog finds it: unix:PATH or http://HOST:PORT. None where that takes TLS or ssh."""
        if self.socket is not None:
            return f"unix:{self.socket}"
        kind, _, where = (self._docker.docker_host or "" if self._docker else "").partition("://")
        return f"http://{where}" if kind in ("tcp", "http") else None

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        deadline_s: float = CALL_S,
    ) -> T:
        """One call, answered within deadline_s. Raises DockerError (4xx, 500) and EngineUnavailable."""
        timeout = aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_S)
        async with self._request(method, path, timeout, params, body) as response:
            raw = await response.read()
        return msgspec.json.decode(raw, type=answer) if answer is not None else None  # pyright: ignore[reportReturnType] -- without `answer` nothing is promised

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, params: Mapping[str, str], deadline_s: float | None = None
    ) -> AsyncGenerator[aiohttp.StreamReader, None]:
        """A long answer, read piece by piece; reading slowly slows the engine, never grows memory."""
        timeout = aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_S)
        async with self._request(method, path, timeout, params, None) as response:
            yield response.content

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, timeout: aiohttp.ClientTimeout, params: Mapping[str, str] | None, body: object
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        if self._session is None or not self._base:
            await self.open()
        assert self._session is not None
        data = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": "application/json"} if data else None
        try:
            async with self._session.request(
                method,
                self._base + path,
                params=params,
                data=data,
                headers=headers,
                timeout=timeout,
                read_bufsize=_READ_BUFFER,
            ) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await response.read())
                yield response
        except aiohttp.ClientConnectorError as fault:
            raise EngineUnavailable(f"the Docker Engine does not answer: {fault}") from fault
        except TimeoutError as late:
            raise AnswerLost(f"the Docker Engine did not answer {method} {path} in {timeout.total} s") from late
        except (aiohttp.ClientError, OSError) as fault:
            raise AnswerLost(f"the Docker Engine does not answer: {fault}") from fault

    async def _version(self, session: aiohttp.ClientSession, host: str) -> Version:
        timeout = aiohttp.ClientTimeout(total=CONNECT_S)
        try:
            async with session.get(f"{host}/version", timeout=timeout) as response:
                raw = await response.read()
                if response.status >= 400:
                    raise EngineUnavailable(f"the Docker Engine answers {response.status} to GET /version")
                return msgspec.json.decode(raw, type=Version)
        except (TimeoutError, aiohttp.ClientError, OSError, msgspec.DecodeError) as fault:
            raise EngineUnavailable(f"no Docker Engine answers: {_plain(fault)}") from fault


def _plain(fault: Exception) -> str:
    """The system's own words for what failed, without the client library's."""
    inner = getattr(fault, "os_error", fault)
    if isinstance(inner, PermissionError):
        return "its socket is not open to this user; as a rule it is to the group docker"
    if isinstance(inner, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _find(url: str | None) -> aiodocker.Docker:
    try:
        return aiodocker.Docker(url=url)
    except (AssertionError, ValueError, OSError, aiodocker.DockerError) as fault:
        raise EngineUnavailable(f"no Docker Engine found: {str(fault) or 'no socket, no DOCKER_HOST'}") from fault


def _session(docker: aiodocker.Docker) -> aiohttp.ClientSession:
    """A session without aiohttp's 100 connections: each live log is one, and the hundredth would starve all calls."""
    if isinstance(docker.connector, aiohttp.UnixConnector):
        return aiohttp.ClientSession(connector=aiohttp.UnixConnector(docker.connector.path, limit=0))
    return docker.session


def negotiate(newest: str, oldest: str) -> str:
    """The API version to speak with an engine that offers oldest to newest: its newest that is known here."""
    offered, needed = _numbers(newest), _numbers(oldest)
    return ".".join(map(str, max(min(offered, _NEWEST_KNOWN), needed)))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _refusal(status: int, raw: bytes) -> Exception:
    try:
        words = str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        words = raw.decode(errors="replace")
    if status in _AWAY:
        return EngineUnavailable(f"the Docker Engine answers {status}: {words}")
    return aiodocker.DockerError(status, words)


def container(name: str, verb: str = "") -> str:
    """The path of a container, or of a verb on it."""
    return f"/containers/{quote(name, safe='')}{verb}"


def filters(**wanted: list[str]) -> str:
    """The Engine's JSON form of list and event filters."""
    return json.dumps(wanted)
