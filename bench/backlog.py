"""Whether a deep queue slows placement: the same jobs run with 100 and with 100,000 of lower rank waiting behind."""

import statistics
import time

import psutil

from bench.jobs import NOOP, SLOTS
from bench.report import Row
from bench.wire import Connection, submit_all, wait_all


async def rate(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """Jobs a second with a deep line, as a share of the same with a short one, in turn."""
    deep, count, rounds = (20_000, 800, 3) if quick else (100_000, 1500, 5)
    slots = SLOTS * (psutil.cpu_count() or 2)
    connection = Connection(port)
    low, high = NOOP | {"priority": -10}, NOOP | {"priority": 10}

    async def measured() -> float:
        began = time.perf_counter()
        await wait_all(connection, await submit_all(connection, high, count), slots, look=False)
        return count / (time.perf_counter() - began)

    await measured()
    short: list[float] = []
    for _ in range(rounds):
        behind = await submit_all(connection, low, 100)
        short.append(await measured())
        await wait_all(connection, behind, slots)
    await submit_all(connection, low, deep)
    long = [await measured() for _ in range(rounds)]
    await connection.close()
    ratio = statistics.median(long) / statistics.median(short)
    value = f"{ratio:.2f} ({statistics.median(long):.0f}/s against {statistics.median(short):.0f}/s)"
    return [Row(f"{deep:,} queued jobs against 100: placement rate", value, ">= 0.9", ">= 0.97")]
