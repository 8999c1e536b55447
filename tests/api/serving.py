"""The real application on a real server, and the handles tests hold it by."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tests.builders import Ledger
from tests.support import HANG_S, wait_until
from windlass.api.app import make_app, make_server
from windlass.api.deps import Services
from windlass.api.hub import Listener
from windlass.core.events import Exited, Prepared, Started
from windlass.core.ids import AttemptId, JobId
from windlass.core.placement.snapshot import Node
from windlass.settings import Api as ApiSettings
from windlass.settings import Database, Redis, Settings
from windlass.store import logs, nodes
from windlass.store.db import connect
from windlass.store.logs import LogChunk

SEED: dict[str, Any] = {"image": "ubuntu", "command": ["bash", "-c", "ls -la && echo done"]}
Json = dict[str, Any]


@dataclass
class Event:
    """One server-sent event."""

    type: str
    id: str
    data: Any


@dataclass
class Api:
    """An API that serves. `http` is a client of it, `ledger` a connection of the test's own."""

    app: FastAPI
    http: httpx2.AsyncClient
    ledger: Ledger
    port: int

    @property
    def services(self) -> Services:
        return self.app.state.services

    @property
    def listeners(self) -> int:
        """How many wait for something."""
        return sum(len(events) for events in self.services.hub._waiting.values())

    async def submit(self, **fields: Any) -> JobId:
        answer = await self.http.post("/v1/jobs", json=SEED | fields)
        assert answer.status_code == 201, answer.text
        return JobId(answer.json()["id"])

    async def job(self, job_id: str) -> Json:
        answer = await self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def start(self, job_id: JobId, node: Node | None = None) -> AttemptId:
        """Place a job and let it run, as a leader and a node would."""
        await self.ledger.place(job_id, node)
        await self.ledger.move(job_id, Prepared())
        now = (await self.ledger.task(job_id)).task.queued_at
        step = await self.ledger.move(job_id, Started(now))
        assert step.attempt is not None
        return step.attempt.id

    async def end(self, job_id: JobId, exited: Exited | None = None) -> None:
        """Let a job's attempt end; by default in success. Nobody is told: readers look by the clock."""
        now = (await self.ledger.task(job_id)).task.queued_at
        await self.ledger.move(job_id, exited or Exited(now, None, 0))

    async def run(self, job_id: JobId) -> AttemptId:
        """A job's whole life."""
        attempt = await self.start(job_id)
        await self.end(job_id)
        return attempt

    async def write(self, attempt: AttemptId, *pieces: bytes, stream: str = "stdout", start: int = 0) -> None:
        """Store output, one chunk per piece."""
        chunks: list[LogChunk] = []
        for piece in pieces:
            chunks.append(LogChunk(attempt, stream, start, piece))
            start += len(piece)
        await logs.append(self.ledger.conn, chunks)

    async def register(self, node: Node) -> None:
        """A node, as a leader would write it."""
        term = await self.ledger.one("SELECT max(term) FROM leases") or await self.ledger.lead()
        labels, facts = {"zone": "a"}, {"docker": {"available": True}}
        await nodes.upsert(self.ledger.conn, node, version="1", labels=labels, facts=facts, term=term)

    @asynccontextmanager
    async def events(self, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
        """A stream of server-sent events."""
        accept = {"accept": "text/event-stream"} | {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.http.stream("GET", path, headers=accept) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield parse_events(answer.aiter_lines())


async def parse_events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Events out of lines; comments are left out."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


def only_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever waits look at the ledger only when there is news, never by the clock."""
    wait = Listener.wait
    monkeypatch.setattr(Listener, "wait", lambda listener, timeout_s=0.0: wait(listener, 3600.0))


def settings_for(database_url: str, redis_url: str, pool_max: int = 8, port: int = 0) -> Settings:
    """Return settings of an API, on any free port unless one is given."""
    return Settings(
        database=Database(database_url, pool_max),
        redis=Redis(redis_url),
        api=ApiSettings(port=port, host="127.0.0.1", allow_anonymous=True),
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Api]:
    """An API that serves while inside, on this loop."""
    app = make_app(settings)
    server = make_server(app, settings)
    task = asyncio.create_task(server.serve())
    try:
        await wait_until(lambda: server.started or task.done(), "the API listens")
        port = server.sockets()[0].getsockname()[1]
        async with (
            await connect(settings.database.url, "test") as conn,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=HANG_S) as http,
        ):
            yield Api(app, http, Ledger(conn), port)
    finally:
        if hasattr(app.state, "services"):
            app.state.services.hub.close()
        server.should_exit = True
        await task


def assert_problem(answer: httpx2.Response, status: int, word: str = "") -> Json:
    """The answer is a problem of this status that says `word`."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["title"]
    assert document["type"].startswith("urn:windlass:problem:")
    assert word in answer.text, answer.text
    return document
