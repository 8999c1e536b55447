"""Submitting: one job a request on 16 connections, and batches. Nothing runs: the jobs need more than is free."""

import asyncio
import time

import psutil

from bench.report import Row
from bench.wire import Connection, submit_all

SECONDS = 5.0


async def _hold(connection: Connection) -> None:
    """Fill the node, so that what is submitted stays queued and only submitting is measured."""
    cores = psutil.cpu_count() or 2
    for _ in range(cores):
        await connection.call("POST", "/v1/jobs", {"command": ["sleep", "600"], "resources": {"cpu": 1}})
    while True:
        _, answer = await connection.call("GET", "/v1/jobs?state=running")
        if len(answer["jobs"]) >= cores:
            return
        await asyncio.sleep(0.05)


async def submit(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """POST /v1/jobs, each answered after its commit."""
    first = Connection(port)
    await _hold(first)
    body = b'{"command":["true"],"resources":{"cpu":0.25,"memory":"16Mi"}}'
    seconds = 2.0 if quick else SECONDS
    until = time.perf_counter() + seconds

    async def client() -> int:
        connection, count = Connection(port), 0
        while time.perf_counter() < until:
            status, answer = await connection.call("POST", "/v1/jobs", body)
            assert status == 201, answer
            count += 1
        await connection.close()
        return count

    counts = await asyncio.gather(*(client() for _ in range(16)))
    await first.close()
    value = f"{sum(counts) / seconds:.0f}/s"
    return [Row("`POST /v1/jobs`, one a request, 16 connections, durable", value, ">= 1,000/s", ">= 2,000/s")]


async def batch(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """POST /v1/jobs/batch, 1,000 at a time, two requests in flight."""
    first = Connection(port)
    await _hold(first)
    count = 10_000 if quick else 50_000
    spec = {"command": ["true"], "resources": {"cpu": 0.25, "memory": "16Mi"}}
    began = time.perf_counter()
    await asyncio.gather(*(submit_all(connection, spec, count // 2) for connection in (first, Connection(port))))
    rate = count / (time.perf_counter() - began)
    await first.close()
    return [Row("`POST /v1/jobs/batch`, 1,000 a request, durable", f"{rate:.0f} jobs/s", ">= 10,000", ">= 20,000")]
