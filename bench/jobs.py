"""No-op jobs by the process driver: how many a second, against `xargs -P2 -n1 true` in turn; and one at idle."""

import asyncio
import statistics
import subprocess
import time

import psutil

from bench.report import Row
from bench.wire import Connection, submit_all, wait_all

#: How many at once on each core.
SLOTS = 10
NOOP = {"command": ["true"], "resources": {"cpu": 0.1, "memory": "16Mi"}, "labels": {"bench": "noop"}}


def xargs(count: int) -> float:
    """Processes a second of the floor a user knows."""
    lines = "\n".join(map(str, range(count)))
    began = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "true"], input=lines, text=True, check=True)
    return count / (time.perf_counter() - began)


async def noop(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """Batch submit until all are finished, durable, everything on this machine."""
    count, rounds = (1000, 3) if quick else (3000, 5)
    slots = SLOTS * (psutil.cpu_count() or 2)
    connection = Connection(port)
    await wait_all(connection, await submit_all(connection, NOOP, 200), slots)
    ours: list[float] = []
    floor: list[float] = []
    for _ in range(rounds):
        floor.append(xargs(count))
        began = time.perf_counter()
        await wait_all(connection, await submit_all(connection, NOOP, count), slots)
        ours.append(count / (time.perf_counter() - began))
    await connection.close()
    ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
    value = f"{ratio:.2f} ({statistics.median(ours):.0f}/s against {statistics.median(floor):.0f}/s)"
    what = f"no-op jobs, process driver, durable, {slots} at once, against `xargs -P2`"
    return [Row(what, value, ">= 0.45", ">= 0.65", ratio)]


async def latency(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """One job at idle, from submit until the client knows it has finished."""
    connection = Connection(port)
    times: list[float] = []
    for i in range(60 if quick else 300):
        began = time.perf_counter()
        status, job = await connection.call("POST", "/v1/jobs", {"command": ["true"]})
        assert status == 201, job
        done = await connection.wait(job["id"])
        if i >= 10:
            times.append((time.perf_counter() - began) * 1000)
        assert done["state"] == "succeeded", done
        await asyncio.sleep(0.02)
    await connection.close()
    cuts = statistics.quantiles(times, n=100)
    value = f"{statistics.median(times):.1f} / {cuts[98]:.1f} ms"
    return [Row("one job at idle, submit to finished, p50 / p99", value, "<= 12 / 25 ms", "<= 6 / 12 ms")]
