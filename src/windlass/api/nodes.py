"""Nodes, as the leader knows them."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from windlass.api import schemas
from windlass.api.answers import failures, reply
from windlass.api.deps import Means
from windlass.errors import NotFound
from windlass.store import nodes
from windlass.store.db import borrow

router = APIRouter(prefix="/v1", tags=["nodes"])


@router.get(
    "/nodes",
    operation_id="list_nodes",
    summary="List nodes",
    response_model=schemas.NodeList,
    responses=failures(),
)
async def list_nodes(services: Means) -> Response:
    """All nodes by name, with what is reserved on them now."""
    async with borrow(services.pool) as conn:
        rows = await nodes.every(conn)
    return reply({"nodes": [schemas.node(row) for row in rows]})


@router.get(
    "/nodes/{node}",
    operation_id="get_node",
    summary="Get a node",
    response_model=schemas.Node,
    responses=failures(404),
)
async def get_node(
    services: Means, node: Annotated[str, Path(description="A node's id or name.", examples=["worker-1"])]
) -> Response:
    """One node."""
    async with borrow(services.pool) as conn:
        rows = await nodes.every(conn)
    for row in rows:
        if node in (row.node.id, row.node.name):
            return reply(schemas.node(row))
    raise NotFound("node", node[:80])
