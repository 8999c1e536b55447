"""Resident memory of each idle role."""

import asyncio

import psutil

from bench.cluster import roles
from bench.report import Row


async def idle(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """After a few seconds of nothing."""
    await asyncio.sleep(3)
    sizes = {name: process.memory_info().rss / 2**20 for name, process in sorted(roles(supervisor).items())}
    value = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()) + " MiB"
    return [Row("memory of each idle role", value, "<= 120 MiB", "<= 80 MiB")]
