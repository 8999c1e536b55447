"""The cluster at one glance."""

from fastapi import APIRouter
from starlette.responses import Response

from windlass.api import schemas
from windlass.api.answers import failures, reply
from windlass.api.deps import Means
from windlass.store import schedulers
from windlass.store.db import borrow

router = APIRouter(prefix="/v1", tags=["cluster"])


@router.get(
    "/cluster",
    operation_id="get_cluster",
    summary="Get the cluster's state",
    response_model=schemas.Cluster,
    responses=failures(),
)
async def get_cluster(services: Means) -> Response:
    """Who leads and who stands by, nodes by state, what waits and runs, and whether Redis serves."""
    async with borrow(services.pool) as conn:
        found = await schedulers.overview(conn)
    return reply(schemas.cluster(found))
