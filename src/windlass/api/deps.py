"""What the routes share, made once per process, and the ways a request's body and ids are read."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Path, Request
from starlette.exceptions import HTTPException

from windlass.api.hub import Hub
from windlass.api.intake import Intake
from windlass.api.keyring import Keyring
from windlass.core.ids import JOB, JobId, is_id
from windlass.core.placement.snapshot import Node
from windlass.core.states import Driver
from windlass.errors import NotFound
from windlass.store import nodes as node_store
from windlass.store import schedulers
from windlass.store.db import Pool, borrow
from windlass.store.schedulers import Reader
from windlass.stream.access import Doorkeeper
from windlass.stream.outage import Health
from windlass.stream.produce import Producer

BODY_LIMIT = 2**20
BATCH_BODY_LIMIT = 16 * 2**20


@dataclass(slots=True)
class Services:
    """The process's means."""

    pool: Pool
    producer: Producer
    hub: Hub
    intake: Intake
    #: of this process's ways to Redis
    health: Health
    keyring: Keyring
    doorkeeper: Doorkeeper
    #: nobody needs a token
    anonymous: bool = False
    #: what workers that join are told: the cluster's name, and where Redis is
    cluster: str = ""
    worker_redis_url: str = ""
    #: the nodes, and what schedulers can read, as of a moment ago (loop time), for the submit check
    nodes: Sequence[Node] = field(default_factory=list[Node])
    readers: Sequence[Reader] = field(default_factory=list[Reader])
    nodes_at: float = -math.inf
    nodes_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: what runs an image where a job names no driver
    containers: Driver = Driver.DOCKER
    #: the question whether the ledger answers, while it is under way
    asking: asyncio.Task[str] | None = None

    async def renew_nodes(self, asked: float) -> None:
        """Read nodes and schedulers, unless that was done since it was `asked` (loop time). Raises Unavailable."""
        async with self.nodes_lock:
            if self.nodes_at >= asked:
                return
            at = asyncio.get_running_loop().time()
            async with borrow(self.pool) as conn:
                self.nodes = [row.node for row in await node_store.every(conn)]
                self.readers = await schedulers.readers(conn)
            self.nodes_at = at


async def services(request: Request) -> Services:
    """The process's means, for a route."""
    return request.app.state.services


Means = Annotated[Services, Depends(services)]


async def _job_id(
    job_id: Annotated[str, Path(description="A job's id.", examples=["job_01m84h7zs6ehdr80hd3b355n33"])],
) -> JobId:
    if not is_id(job_id, JOB):
        raise NotFound("job", job_id[:80])
    return JobId(job_id)


JobKey = Annotated[JobId, Depends(_job_id)]


async def body(request: Request, limit: int = BODY_LIMIT, *, optional: bool = False) -> Any:
    """The request's JSON; of one that is optional and not there an empty object. Raises HTTPException 400, 413, 415."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise HTTPException(415, f"content-type is {kind!r}; send application/json")
    raw = await bounded(request, limit)
    if optional and not raw:
        return {}
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error


async def bounded(request: Request, limit: int) -> bytes:
    """The request's body. Raises HTTPException 413."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > limit:
            raise HTTPException(413, f"the body is over {limit} bytes; split it, or pass large input another way")
    return bytes(raw)
