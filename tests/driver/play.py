"""Playing one attempt through a driver, as an agent does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tests.driver.conftest import Stage
from tests.support import HANG_S
from windlass.driver.base import Chunk, Driver, Outcome, Ticket


@asynccontextmanager
async def opened(driver: Driver) -> AsyncIterator[Driver]:
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


async def run(stage: Stage, driver: Driver, ticket: Ticket) -> Outcome:
    """Prepare, start, wait."""
    await driver.prepare(ticket)
    await driver.start(ticket)
    return await asyncio.wait_for(driver.wait(ticket), HANG_S)


async def read(driver: Driver, ticket: Ticket, after: Mapping[str, int] | None = None) -> dict[str, bytes]:
    """All output past `after`, by stream. Fails on a gap or a repeat."""
    at = dict(after or {})
    found: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    async for chunk in driver.logs(ticket, after or {}):
        follow(chunk, at)
        found[chunk.stream].append(chunk.data)
    return {stream: b"".join(pieces) for stream, pieces in found.items()}


def follow(chunk: Chunk, at: dict[str, int]) -> None:
    """Check that the chunk goes on where the last one of its stream ended."""
    assert 0 < len(chunk.data) <= 64 * 1024
    assert chunk.offset == at.get(chunk.stream, 0), (
        f"{chunk.stream} jumps from {at.get(chunk.stream, 0)} to {chunk.offset}"
    )
    at[chunk.stream] = chunk.offset + len(chunk.data)
