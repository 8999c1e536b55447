"""Logs: an attempt's output as text, or as server-sent events with places to resume from."""

import base64
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Header, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from windlass.api import schemas
from windlass.api.access import holds
from windlass.api.answers import failures
from windlass.api.deps import JobKey, Means, Services
from windlass.core.ids import AttemptId, JobId
from windlass.core.states import job_state
from windlass.errors import NotFound
from windlass.store import jobs, logs
from windlass.store.db import borrow
from windlass.store.jobs import AttemptView, JobView
from windlass.store.logs import LogChunk

router = APIRouter(prefix="/v1", tags=["logs"])

KEEP_ALIVE_S = 15.0
_PLACE = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
TAIL_LIMIT = 100_000
#: About what is held for one reader, who may be slow or never read at all; chunks read at once, and their bounds.
HELD_BYTES = 512 * 1024
READ_LEAST, READ_MOST = 4, 64


@dataclass(frozen=True, slots=True)
class _Asked:
    attempt: int | None
    follow: bool
    since: datetime | None
    stream: str | None

    def wants(self, chunk: LogChunk) -> bool:
        late = self.since is None or (chunk.at is not None and chunk.at >= self.since)
        return late and self.stream in (None, chunk.stream)


@dataclass(frozen=True, slots=True)
class _Place:
    """Go on behind this chunk of this attempt, leaving out the first bytes of what comes."""

    number: int = 0
    seq: int = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """One chunk of one attempt, or (chunk None) nothing new for a while."""

    number: int
    chunk: LogChunk | None


@router.get(
    "/jobs/{job_id}/logs",
    operation_id="get_logs",
    summary="Read a job's output",
    response_class=Response,
    responses=failures(404, 422)
    | {
        200: {
            "description": "Both streams by arrival: bytes as printed, or events `chunk`, `gap`, `end`.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        }
    },
)
async def get_logs(
    services: Means,
    job_id: JobKey,
    attempt: Annotated[int | None, Query(ge=1, le=1_000_000, description="Which attempt; default the latest.")] = None,
    follow: Annotated[bool, Query(description="Go on until the job is over, through all attempts.")] = False,
    tail: Annotated[int | None, Query(ge=0, le=TAIL_LIMIT, description="Only the last lines.")] = None,
    since: Annotated[
        str | None, Query(description="Only what arrived since: RFC 3339, or seconds ago.", examples=["300"])
    ] = None,
    stream: Annotated[Literal["stdout", "stderr"] | None, Query(description="Only this stream.")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Readable while the job runs, and after its container and its node are gone."""
    view, tried = await _look(services, job_id)
    if attempt is not None and not any(a.number == attempt for a in tried) and not (follow and not view.over):
        raise NotFound("attempt", f"{attempt} of {job_id}")
    asked = _Asked(attempt, follow, _since(since), stream)
    place = _resumed(last_event_id)
    if place is None:
        place = _Place() if tail is None else await _tail(services, tried, asked, tail)
    events = "text/event-stream" in accept
    chunks = _chunks(services, job_id, asked, place)
    writer = _as_events(services, job_id, chunks) if events else _as_text(chunks)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(writer, 200, headers, "text/event-stream" if events else "text/plain; charset=utf-8")


async def _look(services: Services, job_id: JobKey) -> tuple[JobView, list[AttemptView]]:
    async with borrow(services.pool) as conn:
        found = await jobs.get_whole(conn, job_id)
    if found is None:
        raise NotFound("job", job_id)
    return found


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise HTTPException(422, "since: must be RFC 3339, such as 2026-11-23T12:00:00Z, or seconds ago") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _resumed(text: str | None) -> _Place | None:
    """The place named by the id of the last event a reader saw."""
    found = _PLACE.fullmatch(text) if text else None
    return _Place(int(found[1]), int(found[2])) if found else None


async def _tail(services: Services, tried: list[AttemptView], asked: _Asked, lines: int) -> _Place:
    """The place from which the last lines of the attempt begin."""
    target = _next(tried, asked, 0) if asked.attempt is not None or not tried else tried[-1]
    if target is None:
        return _Place()
    before, missing = 2**62, lines + 1  # one newline more than lines: the last line's own
    last = True
    async with borrow(services.pool) as conn:
        while chunks := await logs.read_back(conn, AttemptId(target.id), before):
            for chunk in chunks:
                if not lines:
                    return _Place(target.number, chunk.seq)
                before = chunk.seq
                if not asked.wants(chunk) or not chunk.data:
                    continue
                if last and not chunk.data.endswith(b"\n"):
                    missing -= 1
                last = False
                count = chunk.data.count(b"\n")
                if count >= missing:
                    skip = _nth_newline(chunk.data, count - missing) + 1
                    whole = skip == len(chunk.data)
                    return _Place(target.number, chunk.seq) if whole else _Place(target.number, chunk.seq - 1, skip)
                missing -= count
    return _Place(target.number)


def _nth_newline(data: bytes, n: int) -> int:
    at = -1
    for _ in range(n + 1):
        at = data.index(b"\n", at + 1)
    return at


async def _chunks(services: Services, job_id: JobId, asked: _Asked, place: _Place) -> AsyncIterator[_Found]:
    """What there is, attempt by attempt, and with `follow` what comes."""
    number, seq, skip = place.number, place.seq, place.skip
    with services.hub.listen(job_id) as news:
        while True:
            try:
                view, tried = await _look(services, job_id)
            except NotFound:
                return  # deleted meanwhile
            attempt = _next(tried, asked, number)
            if attempt is None:
                if view.over or not asked.follow or await _ends(services):
                    return
                yield _Found(number, None)
                await news.wait()
                continue
            if attempt.number != number:
                number, seq = attempt.number, 0
            async for found in _of_attempt(services, job_id, attempt, asked, seq):
                if skip and found.chunk is not None:
                    found, skip = _Found(number, replace(found.chunk, data=found.chunk.data[skip:])), 0
                yield found
            if not asked.follow or asked.attempt is not None or await _ends(services):
                return
            number, seq = number + 1, 0


def _next(tried: list[AttemptView], asked: _Asked, number: int) -> AttemptView | None:
    """The attempt to read now: the one asked for; with `follow` the next from `number` on; else the latest."""
    if asked.attempt is not None:
        return next((a for a in tried if a.number == asked.attempt), None)
    if asked.follow:
        return next((a for a in tried if a.number >= number), None)
    return tried[-1] if tried else None


async def _ends(services: Services) -> bool:
    """Whether nothing more is to be sent: the process ends, or the token was revoked."""
    return services.hub.closing or not await holds(services)


async def _of_attempt(
    services: Services, job_id: JobId, attempt: AttemptView, asked: _Asked, seq: int
) -> AsyncIterator[_Found]:
    attempt_id, count = AttemptId(attempt.id), READ_LEAST
    with services.hub.listen(attempt_id, job_id) as news:
        while True:
            async with borrow(services.pool) as conn:
                # Asked before reading: all output is stored before an attempt is over.
                over = not asked.follow or await jobs.attempt_over(conn, attempt_id)
                chunks = await logs.read(conn, attempt_id, seq, count)
            for chunk in chunks:
                seq = chunk.seq
                if asked.wants(chunk):
                    yield _Found(attempt.number, chunk)
            if chunks and await holds(services):
                largest = max(len(chunk.data) for chunk in chunks)
                count = min(max(READ_LEAST, HELD_BYTES // max(1, largest)), READ_MOST)
                continue
            if over or await _ends(services):
                return
            yield _Found(attempt.number, None)
            await news.wait()


async def _as_text(chunks: AsyncIterator[_Found]) -> AsyncIterator[bytes]:
    async for found in chunks:
        chunk = found.chunk
        if chunk is not None:
            gap = f"\n[windlass: {chunk.missing} bytes of {chunk.stream} are not kept]\n".encode()
            yield gap if chunk.missing else chunk.data


async def _as_events(services: Services, job_id: JobId, chunks: AsyncIterator[_Found]) -> AsyncIterator[bytes]:
    told = time.monotonic()
    async for found in chunks:
        if found.chunk is not None:
            told = time.monotonic()
            yield _event(found.number, found.chunk)
        elif time.monotonic() - told >= KEEP_ALIVE_S:
            told = time.monotonic()
            yield b": keep-alive\n\n"
    with suppress(NotFound):
        view, _ = await _look(services, job_id)
        yield b"event: end\ndata: " + msgspec.json.encode({"state": job_state(view.state)}) + b"\n\n"


def _event(number: int, chunk: LogChunk) -> bytes:
    where = {"attempt": number, "stream": chunk.stream, "offset": chunk.start, "at": schemas.moment(chunk.at)}
    if chunk.missing:
        kind, data = b"gap", where | {"missing": chunk.missing, "reason": "over the cap, or lost with its node"}
    else:
        kind, data = b"chunk", where | {"data": base64.b64encode(chunk.data).decode()}
    return b"event: %s\nid: %d:%d\ndata: %s\n\n" % (kind, number, chunk.seq, msgspec.json.encode(data))
