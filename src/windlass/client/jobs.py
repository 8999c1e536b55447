"""Jobs over HTTP: submit, look, steer, wait, read."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import msgspec

from windlass.client.errors import ApiError, Problem, ServerError, Unreachable, WaitTimeout, api_error
from windlass.client.models import TERMINAL, BatchAnswer, Event, EventList, Job, JobPage, LogChunk, LogEnd, LogGap
from windlass.client.transport import Params, Transport

Spec = Mapping[str, Any]
LogItem = LogChunk | LogGap | LogEnd

BATCH_JOBS = 1000
_BATCH_BYTES = 8 * 2**20
_PAGE = 500
_LONG_POLL_S = 30
_LOG_KINDS: dict[str, type[LogItem]] = {"chunk": LogChunk, "gap": LogGap, "end": LogEnd}


def _path(job_id: str, verb: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{verb}"


class Jobs:
    """`client.jobs`. Every method raises ApiError and Unreachable; an unknown job is NotFound."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, spec: Spec, *, idempotency_key: str | None = None) -> Job:
        """Submit one job. The same key gives the same job; without one, a fresh key makes the retries safe."""
        key = idempotency_key or secrets.token_hex(16)
        body = await self._transport.call("POST", "/v1/jobs", body=spec, headers={"Idempotency-Key": key}, again=True)
        return self._transport.decode(body, Job)

    async def create_many(self, specs: Sequence[Spec], *, idempotency_key: str | None = None) -> list[str | ApiError]:
        """Submit any number, in requests of up to 1000: for each in order its id, or why it was refused.

        Not atomic. The same key and specs give the same jobs: each job's own key is made of it and the job's place.
        """
        key = idempotency_key or secrets.token_hex(16)
        results: list[str | ApiError] = []
        for at, piece in enumerate(_pieces(specs)):
            headers = {"Idempotency-Key": f"{key}/{at}"}
            body = await self._transport.call(
                "POST", "/v1/jobs/batch", body={"jobs": piece}, headers=headers, again=True, extra_s=30
            )
            for item in self._transport.decode(body, BatchAnswer).results:
                results.append(item.id if item.id is not None else api_error(item.error or Problem()))
        return results

    async def get(self, job_id: str) -> Job:
        """The job as it is now."""
        return self._transport.decode(await self._transport.call("GET", _path(job_id), again=True), Job)

    async def cancel(self, job_id: str) -> Job:
        """Make it a durable wish that the job end; it is `cancelled` once its container is gone."""
        return self._transport.decode(await self._transport.call("POST", _path(job_id, "/cancel"), again=True), Job)

    async def retry(self, job_id: str) -> Job:
        """Run it again: a new job when it has ended, the same one at once when it waits for its next attempt."""
        return self._transport.decode(await self._transport.call("POST", _path(job_id, "/retry")), Job)

    async def delete(self, job_id: str) -> None:
        """Forget a job that has ended, with its logs. Raises Conflict while it lives."""
        await self._transport.call("DELETE", _path(job_id))

    async def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """The job once it has ended, in whatever state. Rides out an API that is away for a while.

        Raises WaitTimeout after `timeout` seconds; the job goes on.
        """
        start = time.monotonic()
        lost: float | None = None
        job: Job | None = None
        while True:
            left = _LONG_POLL_S if timeout is None else timeout - (time.monotonic() - start)
            if job is not None and left <= 0:
                raise WaitTimeout(job_id, timeout or 0, job.state)
            poll = 0 if job is None else min(_LONG_POLL_S, left)
            params: Params = [("wait", f"{poll:.3f}".rstrip("0").rstrip("."))]
            try:
                body = await self._transport.call("GET", _path(job_id), params=params, again=True, extra_s=poll)
            except (Unreachable, ServerError):
                lost = lost or time.monotonic()
                if job is None or time.monotonic() - lost > self._transport.patience:
                    raise
                await asyncio.sleep(0.5)
                continue
            job, lost = self._transport.decode(body, Job), None
            if job.terminal:
                return job

    async def logs(
        self,
        job_id: str,
        *,
        follow: bool = False,
        attempt: int | None = None,
        tail: int | None = None,
        since: str | None = None,
        stream: str | None = None,
    ) -> AsyncGenerator[LogItem, None]:
        """Output in the order it arrived, then one LogEnd. `follow` waits for more until the job has ended.

        All attempts, or one; `tail` in lines; `since` an RFC 3339 moment or seconds back; `stream` stdout or stderr.
        """
        wanted = {"attempt": attempt, "tail": tail, "since": since, "stream": stream}
        params: Params = [(key, str(value)) for key, value in wanted.items() if value is not None]
        params += [("follow", "true")] if follow else []
        async with aclosing(self._transport.stream(_path(job_id, "/logs"), params)) as events:
            async for event, data in events:
                kind = _LOG_KINDS.get(event)
                if kind is None:
                    continue
                item = self._transport.decode(data.encode(), kind)
                # A server that goes away ends the stream early, and says so with the state of a job that still lives.
                early = follow and attempt is None and isinstance(item, LogEnd) and item.state not in TERMINAL
                if not early:
                    yield item
                    if isinstance(item, LogEnd):
                        return

    async def events(self, job_id: str, *, follow: bool = False) -> AsyncGenerator[Event, None]:
        """What happened to the job, oldest first; with `follow` also what happens from now on, until it has ended."""
        body = await self._transport.call("GET", _path(job_id, "/events"), again=True)
        cursor: str | None = None
        for event in self._transport.decode(body, EventList).events:
            cursor, ended = event.cursor, _ends(event)
            yield event
            follow = follow and not ended
        if not follow:
            return
        async with aclosing(self._transport.stream("/v1/events", [("job", job_id)], cursor)) as stream:
            async for _, data in stream:
                event = self._transport.decode(data.encode(), Event)
                yield event
                if _ends(event):
                    return

    async def list(
        self,
        *,
        state: str | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[Job, None]:
        """Jobs, newest first, page by page as they are read; `limit` of them, or all."""
        params: Params = [("label", f"{key}={value}") for key, value in (labels or {}).items()]
        params += [(key, value) for key, value in (("state", state), ("queue", queue), ("name", name)) if value]
        cursor, left = None, limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page_params: Params = [*params, ("limit", str(size)), *([("cursor", cursor)] if cursor else [])]
            body = await self._transport.call("GET", "/v1/jobs", params=page_params, again=True)
            page = self._transport.decode(body, JobPage)
            for job in page.jobs[:left]:
                yield job
            left = None if left is None else left - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return


def _ends(event: Event) -> bool:
    return event.type.removeprefix("job.") in TERMINAL


def _pieces(specs: Sequence[Spec]) -> Iterator[list[msgspec.Raw]]:
    """Specs in groups that keep the API's limits of number and size."""
    piece: list[msgspec.Raw] = []
    size = 0
    for spec in specs:
        encoded = msgspec.json.encode(spec)
        if piece and (len(piece) == BATCH_JOBS or size + len(encoded) > _BATCH_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(msgspec.Raw(encoded))
        size += len(encoded) + 1
    if piece:
        yield piece
