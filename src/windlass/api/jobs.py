"""Jobs: read, list, wait, cancel, retry, delete."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from windlass import tracing
from windlass.api import schemas, submit
from windlass.api.access import by, changing, holds, note
from windlass.api.answers import failures, reply
from windlass.api.deps import JobKey, Means, Services
from windlass.core.attempt import step
from windlass.core.events import CancelRequested, Event, Ignored, RetryRequested
from windlass.core.ids import JOB, JobId, is_id, task_of
from windlass.core.placement.explain import Explanation, explain, stranded
from windlass.core.states import JobState, TaskState, job_state
from windlass.errors import Conflict, NotFound, Unavailable
from windlass.metrics.jobs import FINISHED
from windlass.store import jobs, nodes, shapes, tasks
from windlass.store.apply import apply
from windlass.store.db import Conn, borrow
from windlass.store.jobs import Filter, JobView
from windlass.store.tasks import Live, Unreadable, read_spec
from windlass.stream import wire
from windlass.stream.produce import StreamDown

router = APIRouter(prefix="/v1", tags=["jobs"])

PAGE_LIMIT = 1000
WAIT_LIMIT_S = 60
_ROUNDS = 8


async def document(conn: Conn, job_id: JobId) -> tuple[JobView, dict[str, Any]]:
    """A job with its attempts and, while queued, the reasons. Raises NotFound."""
    found = await jobs.get_whole(conn, job_id)
    if found is None:
        raise NotFound("job", job_id)
    view, tried = found
    if view.state is not TaskState.QUEUED:
        return view, schemas.job(view, tried, reason=await _stranded(conn, view))
    ahead = await jobs.ahead(conn, view)
    return view, schemas.job(view, tried, await _explained(conn, view, ahead), ahead)


async def _stranded(conn: Conn, view: JobView) -> str | None:
    """Why a job that is active is not where it should be: its lost node keeps it, or nobody here can read it."""
    try:
        held = view.state is TaskState.ACTIVE and read_spec(view.spec_text).exclusive
    except Unreadable as error:
        return str(error)
    node = await nodes.stranding(conn, view.task_id) if held else None
    return None if node is None else stranded(node)


async def _explained(conn: Conn, view: JobView, ahead: int) -> Explanation:
    known = await shapes.every(conn)
    return explain(known[view.shape], [row.node for row in await nodes.every(conn)], ahead)


@router.get(
    "/jobs",
    operation_id="list_jobs",
    summary="List jobs, newest first",
    response_model=schemas.JobList,
    responses=failures(422),
)
async def list_jobs(
    services: Means,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    label: Annotated[
        list[str] | None, Query(description="Only jobs with this label, `key=value`; may be repeated.")
    ] = None,
    queue: Annotated[str | None, Query(max_length=63)] = None,
    name: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Response:
    """One page. Go on with `next_cursor` until it is null."""
    if cursor is not None and not is_id(cursor, JOB):
        raise HTTPException(422, "cursor: is not one this API gave; use next_cursor of the page before")
    for field, text in (("queue", queue), ("name", name)):
        if text is not None and "\x00" in text:
            raise HTTPException(422, f"{field}: must not hold a NUL character")
    wanted = Filter(state, _labels(label or []), queue, name)
    async with borrow(services.pool) as conn:
        views = await jobs.page(conn, wanted, limit + 1, cursor)
        more, views = len(views) > limit, views[:limit]
        tried = await jobs.attempts(conn, [view.task_id for view in views])
    documents = [schemas.job(view, tried[view.task_id]) for view in views]
    return reply({"jobs": documents, "next_cursor": views[-1].id if more else None})


def _labels(pairs: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or "\x00" in pair:
            raise HTTPException(422, f"label: {pair[:80]!r} is not key=value; write label=team%3Ddata")
        labels[key] = value
    return labels


@router.get(
    "/jobs/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    response_model=schemas.Job,
    responses=failures(404, 422),
)
async def get_job(
    services: Means,
    job_id: JobKey,
    wait: Annotated[
        float, Query(ge=0, le=WAIT_LIMIT_S, description="Answer when the job is over, or after so many seconds.")
    ] = 0,
) -> Response:
    """The job with its attempts and, while it waits, why."""
    until = time.monotonic() + wait
    with services.hub.listen(job_id) as news:
        while (left := until - time.monotonic()) > 0 and not services.hub.closing and await holds(services):
            async with borrow(services.pool) as conn:
                if await jobs.over(conn, job_id):
                    break
            if await news.wait(min(left, 2.0)):
                async with borrow(services.pool) as conn:
                    view, found = await document(conn, job_id)
                if view.over:
                    return reply(found)
    async with borrow(services.pool) as conn:
        _, found = await document(conn, job_id)
    return reply(found)


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=schemas.Job,
    responses=failures(404),
)
async def cancel_job(services: Means, job_id: JobKey) -> Response:
    """A durable wish: the job is cancelled once its container is gone. Asking twice, or too late, changes nothing."""
    await _move(services, job_id, CancelRequested())
    async with borrow(services.pool) as conn:
        _, found = await document(conn, job_id)
    return reply(found, 202)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=201,
    operation_id="retry_job",
    summary="Run a job again",
    response_model=schemas.Job,
    responses=failures(404, 409, 422)
    | {200: {"model": schemas.Job, "description": "It was waiting for its next attempt, which goes at once."}},
)
async def retry_job(services: Means, job_id: JobKey, key: submit.Key = None) -> Response:
    """A job that is over is never reopened: a new one with the same spec is made, and names this one in `retry_of`."""
    async with borrow(services.pool) as conn:
        view = await jobs.get(conn, job_id)
    if view is None:
        raise NotFound("job", job_id)
    if view.over:
        try:
            spec = read_spec(view.spec_text)
        except Unreadable as error:
            raise Conflict(f"{job_id} cannot be run again by this API: {error}") from error
        await submit.understood(spec, services)
        if view.trace is not None:
            tracing.current.get().link(view.trace)
        return await submit.accept(services, submit.new_job(spec, key, job_id))
    if isinstance(await _move(services, job_id, RetryRequested()), Ignored):
        now = job_state(view.state)
        raise Conflict(f"{job_id} is {now}: only a job that is over, or waits for its next attempt, is retried")
    async with borrow(services.pool) as conn:
        _, found = await document(conn, job_id)
    return reply(found, 200)


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    operation_id="delete_job",
    summary="Delete a job that is over",
    response_class=Response,
    responses=failures(404, 409),
)
async def delete_job(services: Means, job_id: JobKey) -> Response:
    """With its attempts, events and logs."""
    async with changing(services) as conn:
        if not await jobs.delete(conn, [job_id]):
            view = await jobs.get(conn, job_id)
            if view is None:
                raise NotFound("job", job_id)
            raise Conflict(f"{job_id} is {job_state(view.state)}; cancel it first, and delete it once it is over")
        await note(conn, job_id)
    return Response(status_code=204)


async def _move(services: Services, job_id: JobId, event: Event) -> Ignored | None:
    """Apply a user's wish to a job's task; the row may be moving at the same time."""
    for _ in range(_ROUNDS):
        async with borrow(services.pool) as conn:
            live = await _task(conn, job_id, event)
            result = step(live.task, live.attempt, event, await tasks.clock(conn))
            if isinstance(result, Ignored):
                return result
            applied = await apply(conn, [result], term=None, by=by())
        if applied.moved:
            if result.task.state.terminal:
                FINISHED.labels(result.task.state).inc()
            await _tell(services, job_id, ended=result.task.state.terminal)
            return None
    raise Unavailable(f"{job_id} is changing too fast; try again")


async def _task(conn: Conn, job_id: JobId, event: Event) -> Live:
    """A job's task as far as the event asks for it: to end it, nobody needs its spec. Raises NotFound, Conflict."""
    found, others = await tasks.by_id(conn, [task_of(job_id)])
    for live in found.values():
        return live
    for one in others:
        if isinstance(event, CancelRequested) and one.specless is not None:
            return one.specless
        raise Conflict(f"{job_id} cannot be changed by this API: {one.why}")
    raise NotFound("job", job_id)


async def _tell(services: Services, job_id: JobId, *, ended: bool) -> None:
    news: list[wire.News] = [wire.Happened()]
    if ended:
        news.append(wire.Ended((job_id,)))
    try:
        await services.producer.send(reports=[wire.Bell("outbox"), wire.Bell("jobs")], news=news)
    except StreamDown:
        services.hub.wake(job_id)
