"""Events: a job's story, and the live stream of all, with cursors to resume from."""

import time
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from windlass.api import schemas
from windlass.api.access import holds
from windlass.api.answers import failures, reply
from windlass.api.deps import JobKey, Means, Services
from windlass.core.ids import JOB, is_id
from windlass.errors import NotFound
from windlass.store import events, jobs
from windlass.store.db import borrow
from windlass.store.events import Cursor

router = APIRouter(prefix="/v1", tags=["events"])

KEEP_ALIVE_S = 15.0
PAGE = 1000


@router.get(
    "/jobs/{job_id}/events",
    operation_id="get_job_events",
    summary="A job's events, oldest first",
    response_model=schemas.EventList,
    responses=failures(404),
)
async def get_job_events(services: Means, job_id: JobKey) -> Response:
    """What happened to it, in order."""
    async with borrow(services.pool) as conn:
        if await jobs.get(conn, job_id) is None:
            raise NotFound("job", job_id)
        rows = await events.of_job(conn, job_id)
    return reply({"events": [schemas.event(row) for row in rows]})


@router.get(
    "/events",
    operation_id="watch_events",
    summary="Watch all events",
    response_class=Response,
    responses=failures(422)
    | {
        200: {
            "description": "Server-sent events; each event's id is the cursor to resume behind.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def watch_events(
    services: Means,
    cursor: Annotated[str | None, Query(description="Begin behind this event; default: what is new.")] = None,
    job: Annotated[str | None, Query(description="Only this job's.")] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Every event once, in order. `0-0` begins with the oldest there is."""
    if job is not None and not is_id(job, JOB):
        raise HTTPException(422, "job: is not a job's id")
    given = last_event_id or cursor
    try:
        place = Cursor.parse(given) if given else None
    except ValueError as fault:
        raise HTTPException(422, f"cursor: {fault}") from None
    if place is None:
        async with borrow(services.pool) as conn:
            place = await events.now(conn)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(services, place, job), 200, headers, "text/event-stream")


async def _stream(services: Services, place: Cursor, job: str | None) -> AsyncIterator[bytes]:
    told = time.monotonic()
    yield b": windlass events\n\n"
    with services.hub.listen(services.hub.EVENTS) as news:
        while not services.hub.closing and await holds(services):
            async with borrow(services.pool) as conn:
                rows = await events.after(conn, place, PAGE)
            wanted = [row for row in rows if job is None or row.job_id == job]
            if wanted:
                yield b"".join(_event(row) for row in wanted)
                told = time.monotonic()
            if rows:
                place = rows[-1].cursor
            if len(rows) < PAGE:
                if time.monotonic() - told >= KEEP_ALIVE_S:
                    told = time.monotonic()
                    yield b": keep-alive\n\n"
                await news.wait()


def _event(row: events.EventRow) -> bytes:
    data = msgspec.json.encode(schemas.event(row))
    return b"event: %s\nid: %s\ndata: %s\n\n" % (row.type.encode(), str(row.cursor).encode(), data)
