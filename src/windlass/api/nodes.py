"""Nodes, as the leader knows them, and what operators want of them.

A wish is written down and a bell rung; the leader acts on it (scheduler/drain.py), at the latest a second later.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from windlass.api import schemas
from windlass.api.access import changing, note
from windlass.api.answers import failures, reply
from windlass.api.deps import Means, Services, body
from windlass.core.ids import NodeId
from windlass.core.quantity import parse_duration
from windlass.core.spec import FieldError
from windlass.errors import Conflict, NotFound, SpecError
from windlass.store import nodes
from windlass.store.db import Conn, borrow
from windlass.store.nodes import NodeRow
from windlass.stream import wire
from windlass.stream.produce import StreamDown

router = APIRouter(prefix="/v1", tags=["nodes"])

#: What runs on a drained node may go on for this long, unless somebody says otherwise.
DEADLINE_S = 3600.0
_DEADLINE = {
    "type": ["string", "number", "null"],
    "default": DEADLINE_S,
    "examples": ["10m", 0, None],
    "description": "From then on what still runs there is stopped; 0: at once, null: never.",
}
_DRAIN = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {"type": "object", "additionalProperties": False, "properties": {"deadline": _DEADLINE}}
            }
        }
    }
}
NodeKey = Annotated[str, Path(description="A node's id or name.", examples=["worker-1"])]


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
async def get_node(services: Means, node: NodeKey) -> Response:
    """One node."""
    async with borrow(services.pool) as conn:
        return reply(schemas.node(await _find(conn, node)))


@router.post(
    "/nodes/{node}/cordon",
    operation_id="cordon_node",
    summary="Place nothing more on a node",
    response_model=schemas.Node,
    responses=failures(404),
)
async def cordon_node(services: Means, node: NodeKey) -> Response:
    """What runs there goes on. `uncordon` ends it."""
    return await _wish(services, node, nodes.cordon)


@router.post(
    "/nodes/{node}/uncordon",
    operation_id="uncordon_node",
    summary="Place on a node again",
    response_model=schemas.Node,
    responses=failures(404),
)
async def uncordon_node(services: Means, node: NodeKey) -> Response:
    """Ends a cordon, and a drain too. What was stopped already stays so."""
    return await _wish(services, node, nodes.uncordon)


@router.post(
    "/nodes/{node}/drain",
    operation_id="drain_node",
    summary="Clear a node",
    response_model=schemas.Node,
    responses=failures(400, 404, 413, 415, 422),
    openapi_extra=_DRAIN,
)
async def drain_node(request: Request, services: Means, node: NodeKey) -> Response:
    """Nothing more is placed there, and what runs may go on until the deadline, an hour from now unless given. What
    is stopped then is placed elsewhere at once, and takes none of its retries. The node is empty when its `attempts`
    are 0, and stays cordoned until `uncordon`."""
    within_s = _deadline(await body(request, optional=True))
    return await _wish(services, node, lambda conn, node_id: nodes.drain(conn, node_id, within_s), within_s=within_s)


@router.post(
    "/nodes/{node}/forget",
    status_code=204,
    operation_id="forget_node",
    summary="Declare a lost node gone for good",
    response_class=Response,
    responses=failures(404, 409),
)
async def forget_node(services: Means, node: NodeKey) -> Response:
    """You vouch that nothing runs there any more: exclusive jobs that wait for that are placed again, and the node
    leaves the list. One that comes back all the same registers anew."""
    async with changing(services) as conn:
        found = await _find(conn, node)
        if not await nodes.forget(conn, found.node.id):
            state = await nodes.state_of(conn, found.node.id)
            fix = "stop its worker or its machine, and forget it once it is lost"
            raise Conflict(
                f"node {found.node.name} is {state or found.node.state}: only a lost node is forgotten; {fix}"
            )
        await note(conn, found.node.id, name=found.node.name)
    await _ring(services)
    return Response(status_code=204)


async def _find(conn: Conn, key: str) -> NodeRow:
    """The node of this id or name; of several of one name the one that is not lost. Raises NotFound."""
    found = [row for row in await nodes.every(conn) if key in (row.node.id, row.node.name)]
    if not found:
        raise NotFound("node", key[:80])
    return min(found, key=lambda row: (row.node.state == "lost", row.node.id))


def _deadline(raw: object) -> float | None:
    """Seconds until the drain's deadline; None for never. Raises SpecError."""
    given = cast("dict[str, Any]", raw) if isinstance(raw, dict) else None
    if given is None or set(given) - {"deadline"}:
        raise SpecError([FieldError("", 'must be an object with at most a deadline, such as {"deadline": "10m"}')])
    value = given.get("deadline", DEADLINE_S)
    try:
        return None if value is None else parse_duration(value)
    except ValueError as fault:
        raise SpecError([FieldError("deadline", str(fault), str(value)[:80])]) from None


async def _wish(
    services: Services, key: str, write: Callable[[Conn, NodeId], Awaitable[None]], **detail: Any
) -> Response:
    """Write a wish down, and the record of who had it; then ring, and answer with the node."""
    async with changing(services) as conn:
        found = (await _find(conn, key)).node
        await write(conn, found.id)
        await note(conn, found.id, name=found.name, **detail)
    await _ring(services)
    async with borrow(services.pool) as conn:
        return reply(schemas.node(await _find(conn, found.id)))


async def _ring(services: Services) -> None:
    with suppress(StreamDown):  # the leader looks each second anyway
        await services.producer.report([wire.Bell("nodes")])
