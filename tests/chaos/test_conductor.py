"""The conductor heals what it breaks, whenever it is told to end."""

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any, cast

from tests.support import HANG_S
from windlass.chaos.conductor import Conductor
from windlass.chaos.faults import Fault
from windlass.chaos.site import Hit, NoTarget, Site


class Stage:
    """A fault that takes its time to begin, and says what became of it."""

    def __init__(self) -> None:
        self.striking, self.go_on, self.healed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.site = cast("Site", type("Nobody", (), {"busy": set[str]()})())

    async def act(self, site: Site, hit: Hit) -> AsyncGenerator[None, None]:
        self.striking.set()
        await self.go_on.wait()
        hit.strike()
        yield
        self.healed.set()

    def conductor(self, act: Any) -> Conductor:
        return Conductor(self.site, [Fault("slow", "api", act, _back)], random.Random(1), 0.01, lambda _: None)


async def _back(site: Site, hit: Hit) -> float:
    return 0.5


async def test_a_fault_that_was_being_injected_when_the_run_was_ended_is_healed() -> None:
    stage = Stage()
    conductor = stage.conductor(stage.act)
    running = asyncio.create_task(conductor.run(float("inf"), None))
    await asyncio.wait_for(stage.striking.wait(), HANG_S)
    running.cancel()
    await asyncio.wait([running])
    stage.go_on.set()
    await conductor.settle()
    assert stage.healed.is_set()
    assert [(hit.number, hit.recovered_s, hit.alone) for hit in conductor.hits] == [(1, 0.5, True)]


async def test_a_fault_that_finds_nobody_is_none() -> None:
    async def act(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
        if len(asked) < 4:
            asked.append(hit.number)
            raise NoTarget
        yield

    asked: list[int] = []
    conductor = Stage().conductor(act)
    await conductor.run(float("inf"), 2)
    await conductor.settle()
    assert asked == [1, 1, 1, 1]
    assert [hit.number for hit in conductor.hits] == [1, 2]
