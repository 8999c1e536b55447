"""The programs of a world: the real roles, and a user who submits and cancels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.process import alive
from windlass.api import app
from windlass.scheduler import leader
from windlass.worker import serve as worker

if TYPE_CHECKING:
    from tests.simulation.world import World


async def scheduler(world: World, stop: asyncio.Event) -> None:
    """`windlass scheduler`."""
    await leader.serve(world.settings_of(world.machines[alive().host.name]), stop)


async def agent(world: World, stop: asyncio.Event) -> None:
    """`windlass worker`."""
    await worker.serve(world.settings_of(world.machines[alive().host.name]), stop)


async def api(world: World, stop: asyncio.Event) -> None:
    """`windlass api`: its means, and route functions called through the door."""
    process = alive()
    async with app._means(world.settings_of(world.machines[process.host.name])) as services:
        world.door.serving = (process, services)
        await stop.wait()
