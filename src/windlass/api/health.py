"""Whether this process lives, whether it can serve, which version it is, and its metrics."""

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from windlass import __version__
from windlass.api import schemas
from windlass.api.answers import reply
from windlass.api.deps import Means, Services
from windlass.errors import Unavailable
from windlass.store.db import borrow, ping

router = APIRouter(tags=["health"])

READY_S = 1.0


@router.get("/livez", operation_id="livez", summary="Does the process live?", response_model=schemas.Health)
async def livez() -> Response:
    """Says yes as long as it can say anything."""
    return reply({"status": "ok", "checks": {}})


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can it serve?",
    response_model=schemas.Health,
    responses={503: {"model": schemas.Health, "description": "The ledger does not answer."}},
)
async def readyz(services: Means) -> Response:
    """Ready while the ledger answers; without the stream it serves too, more slowly."""
    ledger = await _ledger(services)
    checks = {"ledger": ledger, "stream": "ok" if services.health.degraded_s is None else "degraded"}
    if ledger != "ok":
        return reply({"status": "unavailable", "checks": checks}, 503, {"Retry-After": "1"})
    return reply({"status": "ok", "checks": checks})


async def _ledger(services: Services) -> str:
    """The word ok, or what is wrong. One question at a time is under way, and nobody waits long for its answer."""
    if services.asking is None or services.asking.done():
        services.asking = asyncio.create_task(_ask(services))
    asking = services.asking
    await asyncio.wait([asking], timeout=READY_S)
    return asking.result() if asking.done() else f"PostgreSQL has not answered within {READY_S:g} s"


async def _ask(services: Services) -> str:
    try:
        async with borrow(services.pool) as conn:
            await ping(conn)
    except Unavailable as error:
        return str(error)
    return "ok"


@router.get("/version", operation_id="version", summary="Which version is it?", response_model=schemas.Version)
async def version() -> Response:
    """Of the software and of the API."""
    return reply({"version": __version__, "api": "v1"})


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text format."}},
)
async def metrics() -> Response:
    """Of this process."""
    page = await asyncio.to_thread(generate_latest)
    return Response(page, 200, None, CONTENT_TYPE_LATEST)
