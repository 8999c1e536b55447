"""How this node joins, and what it is let in with afterwards.

At its first start with a join token the node makes a token and a password of its own, keeps them in
`worker.data/credentials.json`, and shows the API their SHA-256. So a start that dies in between, or an answer that is
lost, is just repeated. From then on the join token is not needed, and not looked at.

A worker that is told Redis' URL with a password in it, or has never joined, comes to Redis with what that URL says.
"""

import asyncio
import hashlib
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import msgspec
import structlog
from msgspec import Struct

from windlass.core.access import Role
from windlass.core.ids import NodeId
from windlass.errors import SettingsError
from windlass.http import HttpClient, trusting
from windlass.mint import new_token
from windlass.settings import Settings
from windlass.stream.keys import Keys
from windlass.stream.outage import Health

log = structlog.get_logger("worker")

JOIN, ACCESS = "/v1/internal/join", "/v1/internal/redis-access"
FILE = "credentials.json"
PAUSE_FIRST_S, PAUSE_MOST_S, AGAIN_S = 0.2, 5.0, 1.0


class Credentials(Struct, frozen=True):
    """What this node is let in with. `cluster` is empty until it has joined."""

    token: str
    redis_password: str
    cluster: str = ""
    redis_url: str = ""


class Way(Struct, frozen=True):
    """How this worker reaches the others: its streams' names, Redis' URL and login, and the token for the API."""

    cluster: str
    redis_url: str
    login: tuple[str, str] | None = None
    token: str = ""


def check(settings: Settings) -> None:
    """Raise a SettingsError when this worker has no way to the others at all."""
    mine = settings.worker
    if not (mine.join or mine.join_file or settings.redis.url or (mine.data / FILE).exists()):
        raise SettingsError(
            "this worker has neither joined a cluster nor been told where Redis is: start it with --join TOKEN "
            "(`windlass token create --join`), or set WINDLASS_REDIS_URL"
        )


async def find_way(settings: Settings, node_id: NodeId) -> Way:
    """How to reach the others; joins first where that is to be done. Raises SettingsError."""
    mine, path = settings.worker, settings.worker.data / FILE
    found = _read(path)
    if (found is None or not found.cluster) and (mine.join or mine.join_file):
        found = found or Credentials(new_token(Role.NODE), secrets.token_hex(32))
        _write(path, found)
        found = await _join(settings, node_id, found)
        _write(path, found)
    if found is None or not found.cluster:
        return Way(settings.cluster, settings.redis.url)
    url = settings.redis.url or found.redis_url
    login = (Keys(found.cluster).user(node_id), found.redis_password)
    return Way(found.cluster, url, None if urlsplit(url).password else login, found.token)


def api_client(settings: Settings, token: str = "") -> HttpClient:
    """A client of the API with this token. Raises SettingsError."""
    try:
        verify = trusting(settings.api.ca_file) if settings.api.ca_file else True
    except ValueError as fault:
        raise SettingsError(f"api.ca_file: {fault}") from None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return HttpClient(base_url=settings.api.url, timeout=30.0, headers=headers, verify=verify)


async def _join(settings: Settings, node_id: NodeId, mine: Credentials) -> Credentials:
    """Ask until the API answers. Raises SettingsError when it says no."""
    token = settings.worker.join or _token_of(Path(settings.worker.join_file))
    wanted = {"node_id": node_id, "name": settings.worker.name, "token_sha256": _sha256(mine.token)}
    body = msgspec.json.encode(wanted | {"redis_sha256": _sha256(mine.redis_password)})
    pause, told = PAUSE_FIRST_S, False
    async with api_client(settings, token) as http:
        while True:
            try:
                answer = await http.post(JOIN, content=body, headers={"content-type": "application/json"})
                if answer.status_code == 200:
                    given = msgspec.json.decode(answer.content, type=dict[str, str])
                    log.info("joined", node_id=node_id, cluster=given["cluster"])
                    return msgspec.structs.replace(mine, cluster=given["cluster"], redis_url=given["redis_url"])
                why = _detail(answer)
                if answer.status_code in (401, 403, 404, 409, 422):
                    raise SettingsError(f"{settings.api.url} does not let this node join: {why}")
            except httpx2.HTTPError as error:
                why = str(error) or type(error).__name__
            if not told:
                told = True
                log.warning("join_waits", api=settings.api.url, error=why)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_MOST_S)


async def keep_access(http: httpx2.AsyncClient, folder: Path, health: Health) -> None:
    """Whenever Redis does not let this node in, have the API make its user again: Redis may have lost all it had."""
    mine = _read(folder / FILE)
    assert mine is not None
    body = msgspec.json.encode({"redis_sha256": _sha256(mine.redis_password)})
    told = False
    while True:
        await health.locked_out.wait()
        try:
            answer = await http.post(ACCESS, content=body, headers={"content-type": "application/json"}, timeout=5.0)
            why = "" if answer.status_code == 200 else _detail(answer)
        except httpx2.HTTPError as error:
            why = str(error) or type(error).__name__
        if not why:
            health.locked_out.clear()
            log.info("redis_access_renewed")
        elif not told:
            log.warning("redis_access_waits", error=why)
        told = bool(why)
        await asyncio.sleep(AGAIN_S)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _detail(answer: httpx2.Response) -> str:
    try:
        return msgspec.json.decode(answer.content, type=dict[str, object])["detail"].__str__()
    except (msgspec.MsgspecError, KeyError):
        return f"it answered {answer.status_code}"


def _token_of(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"worker.join_file {str(path)!r} can't be read: {error}") from None


def _read(path: Path) -> Credentials | None:
    """What the node was let in with before. Raises SettingsError when the file holds something else."""
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except (msgspec.MsgspecError, OSError) as error:
        raise SettingsError(f"{str(path)!r} can't be used ({error}): remove it, and join anew with --join") from None


def _write(path: Path, credentials: Credentials) -> None:
    """For this user's eyes alone, and whole or not at all."""
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, msgspec.json.format(msgspec.json.encode(credentials), indent=1) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(fresh, path)
