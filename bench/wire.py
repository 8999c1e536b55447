"""A light HTTP client, so that what is measured is the server: one connection, one request at a time."""

import asyncio
import json
from typing import Any


class Connection:
    """Keeps one connection open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, document)."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        content = await reader.readexactly(length)
        return int(answer[9:12]), json.loads(content) if content else None

    async def wait(self, job_id: str) -> dict[str, Any]:
        """The job once it is over."""
        while True:
            status, job = await self.call("GET", f"/v1/jobs/{job_id}?wait=30")
            assert status == 200, job
            if job["finished_at"] is not None:
                return job

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()


async def submit_all(connection: Connection, spec: dict[str, Any], count: int) -> list[str]:
    """Submit in batches of up to 1,000; the ids in order."""
    ids: list[str] = []
    while len(ids) < count:
        size = min(1000, count - len(ids))
        status, answer = await connection.call("POST", "/v1/jobs/batch", {"jobs": [spec] * size})
        assert status == 200, answer
        ids += [result["id"] for result in answer["results"]]
    return ids


async def wait_all(connection: Connection, ids: list[str], slots: int, *, look: bool = True) -> None:
    """All of a line of alike jobs: when the last of it are over, so are those before them. With `look`, lists what is
    open to be sure; not where much else is open, for that list would be what is measured."""
    for job_id in ids[-4 * slots :]:
        await connection.wait(job_id)
    for state in ("queued", "running") if look else ():
        _, answer = await connection.call("GET", f"/v1/jobs?state={state}&limit=1000")
        left = {job["id"] for job in answer["jobs"]} & set(ids)
        for job_id in left:
            await connection.wait(job_id)
