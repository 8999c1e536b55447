"""How a node joins: with a join token it has its own token taken down, and its own user in Redis made.

The node makes both secrets itself and sends their SHA-256. So a request that is repeated changes nothing, and no answer
holds a secret. Not part of the public API.
"""

from contextlib import suppress
from typing import Annotated, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
from fastapi import APIRouter, Request
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.responses import Response

from windlass.api import access
from windlass.api.access import changing
from windlass.api.answers import reply
from windlass.api.deps import Means, bounded
from windlass.core.access import Role
from windlass.core.ids import NODE, TOKEN, NodeId, is_id
from windlass.errors import Conflict, Unavailable
from windlass.mint import new_id
from windlass.store import tokens
from windlass.store.db import Conn
from windlass.stream.outage import StreamDown

router = APIRouter(prefix="/v1/internal", include_in_schema=False)

BODY_LIMIT = 4096
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
T = TypeVar("T")


class Joining(Struct):
    """What a node says of itself when it joins."""

    node_id: str
    name: Annotated[str, Meta(min_length=1, max_length=63)]
    token_sha256: Sha256
    redis_sha256: Sha256


class RedisAccess(Struct):
    """The password a node will come to Redis with."""

    redis_sha256: Sha256


@router.post("/join")
async def join(request: Request, services: Means) -> Response:
    """Take a node in. Repeated by the same node it changes nothing; another node can't take its place."""
    asked = await _read(request, Joining)
    if not is_id(asked.node_id, NODE):
        raise HTTPException(422, "node_id: is not a node's id")
    node_id = NodeId(asked.node_id)
    try:
        async with changing(services) as conn:
            await _take_in(conn, node_id, asked)
    except psycopg.errors.UniqueViolation:
        raise Unavailable(f"{asked.node_id} is joining at this moment; try again") from None
    with suppress(StreamDown):  # the worker asks again when Redis refuses it
        await services.doorkeeper.admit(node_id, asked.redis_sha256)
    return reply({"cluster": services.cluster, "redis_url": services.worker_redis_url})


async def _take_in(conn: Conn, node_id: NodeId, asked: Joining) -> None:
    held = await tokens.of_node(conn, node_id)
    mark = bytes.fromhex(asked.token_sha256)
    if held is not None and held[1] == mark:
        return
    if held is not None:
        raise Conflict(
            f"{node_id} has joined already: `windlass token revoke {held[0]}` lets it join anew, "
            "or empty worker.data for another node"
        )
    me = access.caller()
    if me.token_id is not None and not await tokens.spend(conn, me.token_id):
        raise HTTPException(403, f"the join token {me.name!r} is used up: `windlass token create --join` makes another")
    made = await tokens.add(conn, new_id(TOKEN), mark, asked.name, Role.NODE, me.name, node_id=node_id)
    await access.note(conn, node_id, name=asked.name, token=made.id)


@router.post("/redis-access")
async def redis_access(request: Request, services: Means) -> Response:
    """Make a node's user in Redis again, which may have lost it."""
    asked = await _read(request, RedisAccess)
    node_id = access.caller().node_id
    if node_id is None:
        raise HTTPException(403, "only a node that has joined has a user in Redis")
    try:
        await services.doorkeeper.admit(node_id, asked.redis_sha256)
    except StreamDown as error:
        raise Unavailable(str(error)) from error
    return reply({"cluster": services.cluster, "redis_url": services.worker_redis_url})


async def _read(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await bounded(request, BODY_LIMIT), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(422, str(error)) from error


def without_login(url: str) -> str:
    """A Redis URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
