"""Scaling: how many workers are needed, for whoever starts and ends them: KEDA's metrics-api, or a script."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from windlass.api.answers import failures, reply
from windlass.api.deps import Means
from windlass.core.placement.demand import scale, total, worker_size
from windlass.core.placement.snapshot import Room, Shape
from windlass.core.quantity import parse_cpu, parse_size
from windlass.store import backlog, nodes
from windlass.store.db import borrow

router = APIRouter(prefix="/v1", tags=["cluster"])

#: Tasks of one shape that are counted at most: the answer is as quick with a deep line as with a short one.
MOST = 10_000


class Size(BaseModel):
    cpu: float = Field(description="Cores.", examples=[4.0])
    memory: int = Field(description="Bytes.", examples=[8589934592])


class Load(Size):
    tasks: int = Field(examples=[12])


class Scaling(BaseModel):
    needed_workers: int = Field(
        description="Workers of that size that would hold all that waits and runs at once.", examples=[3]
    )
    ready_workers: int = Field(description="Workers that take work now.", examples=[2])
    worker: Size | None = Field(description="The size that was counted with; null while no worker was ever seen.")
    waiting: Load = Field(description=f"Of one shape at most {MOST:,} tasks are counted.")
    running: Load
    unplaceable: int = Field(description="Waiting tasks that are too big for a worker of that size.", examples=[0])


_CPU = Query(description="Count with workers of so many cores; default those of the smallest there is.")
_MEMORY = Query(description="And of so much memory.", examples=["8Gi"])


@router.get(
    "/scaling",
    operation_id="get_scaling",
    summary="How many workers are needed?",
    response_model=Scaling,
    responses=failures(422),
)
async def get_scaling(
    services: Means,
    cpu: Annotated[str | None, _CPU] = None,
    memory: Annotated[str | None, _MEMORY] = None,
) -> Response:
    """As many as would hold all that waits and runs at once, each as big as the smallest worker there is. With nothing
    waiting and nothing running it is 0."""
    given = _given(cpu, memory)
    async with borrow(services.pool) as conn:
        demand = list((await backlog.count(conn, MOST)).values())
        known = [row.node for row in await nodes.every(conn)]
    found = scale(demand, given or worker_size(known))
    document = {
        "needed_workers": found.workers,
        "ready_workers": sum(node.open for node in known),
        "worker": None if found.size is None else _size(found.size),
        "waiting": _load((one.shape, one.waiting) for one in demand),
        "running": _load((one.shape, one.live) for one in demand),
        "unplaceable": found.unplaceable,
    }
    return reply(document)


def _given(cpu: str | None, memory: str | None) -> Room | None:
    """The size somebody asks about. Raises HTTPException."""
    if cpu is None and memory is None:
        return None
    if cpu is None or memory is None:
        raise HTTPException(422, "cpu and memory: a worker's size has both; give both or none")
    try:
        return Room(round(parse_cpu(cpu) * 1000), parse_size(memory))
    except ValueError as fault:
        raise HTTPException(422, f"cpu or memory: {fault}") from None


def _size(room: Room) -> dict[str, Any]:
    return {"cpu": room.millis / 1000, "memory": room.memory}


def _load(parts: Iterable[tuple[Shape, int]]) -> dict[str, Any]:
    tasks, room = total(parts)
    return {"tasks": tasks, **_size(room)}
