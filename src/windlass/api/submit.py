"""Submit: one job or up to a thousand, checked before anything is written."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec
from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from windlass import tracing
from windlass.api import problems, schemas
from windlass.api.access import by
from windlass.api.answers import failures, reply
from windlass.api.deps import BATCH_BODY_LIMIT, Means, Services, body
from windlass.core.fields import parse_spec, spec_schema
from windlass.core.ids import JOB, JobId
from windlass.core.job import fingerprint, payload
from windlass.core.parsers import FAULTS_LIMIT, short
from windlass.core.placement.explain import impossible
from windlass.core.placement.snapshot import Node, shape_of
from windlass.core.quantity import show_size
from windlass.core.spec import FieldError, JobSpec
from windlass.errors import NotFound, SpecError, WindlassError
from windlass.mint import new_id
from windlass.store import jobs
from windlass.store.db import borrow
from windlass.store.jobs import NewJob
from windlass.store.schedulers import UNSAID

router = APIRouter(prefix="/v1", tags=["jobs"])

BATCH_LIMIT = 1000
#: Seconds for which what the schedulers can read is taken for true.
FRESH_S = 5.0
KEY_LIMIT = 255

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="The same key gives the same job, however often it is sent; with another payload it is refused.",
        max_length=KEY_LIMIT,
        min_length=1,
        pattern=r"^[\x20-\x7e]+$",
        examples=["nightly-2026-11-23"],
    ),
]

_encode = msgspec.json.Encoder().encode

_BATCH_SCHEMA = {
    "type": "object",
    "required": ["jobs"],
    "additionalProperties": False,
    "properties": {
        "jobs": {
            "type": "array",
            "minItems": 1,
            "maxItems": BATCH_LIMIT,
            "items": {"$ref": "#/components/schemas/JobSpec"},
        }
    },
}


def request_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's description of a JSON body that the route reads itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def checked(raw: object, services: Services, asked: float) -> JobSpec:
    """A valid spec that some node could run, of all there were when it was `asked` (loop time). Raises SpecError."""
    spec = parse_spec(raw, services.containers)
    if isinstance(spec, list):
        raise SpecError(spec)
    await understood(spec, services)
    if _too_large(spec, services.nodes):
        await services.renew_nodes(asked)  # the one that could hold it may have joined this moment
        if fault := _too_large(spec, services.nodes):
            raise SpecError([fault])
    return spec


async def understood(spec: JobSpec, services: Services) -> None:
    """See that every scheduler can read the spec: one of another version would park the job, or, before 0.3, stop at
    it with all others behind. Raises SpecError, Unavailable."""
    if spec.driver in UNSAID:
        return
    await services.renew_nodes(asyncio.get_running_loop().time() - FRESH_S)
    for reader in services.readers:
        if spec.driver not in reader.drivers:
            message = f"is not known to the scheduler on {reader.host}, which is of version {reader.version}; "
            message += "upgrade every scheduler first, and send the job again"
            raise SpecError([FieldError("driver", message, spec.driver)])


def _too_large(spec: JobSpec, nodes: Sequence[Node]) -> FieldError | None:
    """Why no node there is could ever run it."""
    most = max((node.capacity.memory for node in nodes), default=None)
    if most is not None and (spec.resources.memory_max or 0) > most:
        message = f"is more than any node has ({show_size(most)}); ask for less"
        return FieldError("resources.memory_max", message, show_size(spec.resources.memory_max or 0))
    if (why := impossible(shape_of(spec), nodes)) is not None:
        asked = f"cpu {spec.resources.cpu:g}, memory {show_size(spec.resources.memory)}"
        return FieldError("resources", f"{why}; ask for less, or add a node that large", asked)
    return None


def new_job(spec: JobSpec, key: str | None, retry_of: JobId | None = None) -> NewJob:
    """A job on its way in."""
    canonical = _encode(spec)
    mark = fingerprint(_encode(payload(spec))) if key is not None else None
    return NewJob(JobId(new_id(JOB)), spec, canonical, key, mark, retry_of, tracing.current.get().onward())


async def accept(services: Services, job: NewJob) -> Response:
    """Write one job and answer with it: 201, or 200 for one that an earlier request made."""
    (result,) = await services.intake.submit([job], by())
    if isinstance(result, WindlassError):
        raise result
    location = {"Location": f"/v1/jobs/{result.id}"}
    if result.created_at is None:
        async with borrow(services.pool) as conn:
            found = await jobs.get_whole(conn, result.id)
        if found is None:
            raise NotFound("job", result.id)
        return reply(schemas.job(*found), 200, location | {"Idempotency-Replayed": "true"})
    return reply(_fresh(job, schemas.moment(result.created_at)), 201, location)


def _fresh(job: NewJob, created_at: str | None) -> dict[str, Any]:
    spec = job.spec
    status: dict[str, Any] = {
        "reason": None,
        "explanation": [],
        "ahead": None,
        "retries": 0,
        "infra_losses": 0,
        "cancel_requested": False,
        "attempts": [],
    }
    return {
        "id": job.id,
        "name": spec.name,
        "state": "queued",
        "queue": spec.queue,
        "labels": spec.labels,
        "spec": msgspec.Raw(job.canonical),
        "created_at": created_at,
        "finished_at": None,
        "retry_of": job.retry_of,
        "trace_id": job.trace and job.trace.trace_id,
        "status": status,
    }


@router.post(
    "/jobs",
    status_code=201,
    operation_id="submit_job",
    summary="Submit a job",
    response_model=schemas.Job,
    responses=failures(400, 413, 415, 422)
    | {200: {"model": schemas.Job, "description": "An earlier request with this Idempotency-Key made it."}},
    openapi_extra=request_schema({"$ref": "#/components/schemas/JobSpec"}),
)
async def submit_job(request: Request, services: Means, key: Key = None) -> Response:
    """Accept a job. It is answered only once it is durable: from then on it is never lost."""
    spec = await checked(await body(request), services, asyncio.get_running_loop().time())
    return await accept(services, new_job(spec, key))


@router.post(
    "/jobs/batch",
    operation_id="submit_jobs",
    summary="Submit up to 1,000 jobs",
    response_model=schemas.BatchResult,
    responses=failures(400, 413, 415, 422),
    openapi_extra=request_schema(_BATCH_SCHEMA),
)
async def submit_jobs(request: Request, services: Means, key: Key = None) -> Response:
    """Accept many jobs in one transaction; answers each in order with its id, or with its own error."""
    wanted = _batch(await body(request, BATCH_BODY_LIMIT))
    asked = asyncio.get_running_loop().time()
    results: list[dict[str, Any]] = []
    valid: list[NewJob] = []
    for i, raw in enumerate(wanted):
        try:
            # no header can hold the separator, so no single job's key is taken for one of a batch's
            valid.append(new_job(await checked(raw, services, asked), None if key is None else f"{key}\x1f{i}"))
            results.append({})
        except SpecError as error:
            results.append({"error": problems.of(error)})
    accepted = iter(await services.intake.submit(valid, by()) if valid else [])
    for i, result in enumerate(results):
        if not result:
            done = next(accepted)
            results[i] = {"error": problems.of(done)} if isinstance(done, WindlassError) else {"id": done.id}
    return reply({"results": results})


def _batch(document: object) -> list[object]:
    if isinstance(document, dict):
        fields = cast("dict[str, object]", document)
        wanted, others = fields.get("jobs"), fields.keys() - {"jobs"}
        if others:
            told = [short(name) for name in sorted(others)[:FAULTS_LIMIT]]
            raise SpecError([FieldError(name, "is not a field; a batch has only `jobs`") for name in told])
        if isinstance(wanted, list) and 0 < len(cast("list[object]", wanted)) <= BATCH_LIMIT:
            return cast("list[object]", wanted)
    raise SpecError([FieldError("jobs", f"must be a list of 1 to {BATCH_LIMIT} jobs; send more in several batches")])


COMPONENTS = {"JobSpec": spec_schema()}
