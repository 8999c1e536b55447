"""Users: what they ask for, and what the API has promised them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import httpx2

from tests.simulation.http import Work
from windlass.api import access, jobs, submit
from windlass.api.deps import Services
from windlass.api.intake import Accepted
from windlass.core.events import CancelRequested
from windlass.core.ids import JobId
from windlass.core.spec import Backoff, JobSpec, Resources
from windlass.core.states import Driver
from windlass.errors import NotFound, WindlassError

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Seconds a user waits for an answer, and before the next try.
PATIENCE_S = 6.0
PAUSE_S = 0.4


@dataclass
class Wish:
    """One job somebody wants, and when."""

    key: str
    spec: JobSpec
    at: float
    cancel_at: float | None = None
    #: the request is sent a second time at the same moment
    twice: bool = False
    #: ids the API has answered with
    accepted: list[JobId] = field(default_factory=list)
    #: its cancel was written
    cancelled: bool = False


def wishes(draw: Random, until: float) -> list[Wish]:
    """The jobs of a world."""
    return [_wish(draw, f"key-{i}", until) for i in range(draw.randint(4, 12))]


def _wish(draw: Random, key: str, until: float) -> Wish:
    at = draw.uniform(0.2, until)
    cancel_at = at + draw.choice((0.0, 0.05, 0.5, 3.0)) * draw.random() * 4 if draw.random() < 0.2 else None
    return Wish(key, _spec(draw), at, cancel_at, twice=draw.random() < 0.1)


def _spec(draw: Random) -> JobSpec:
    run_for = round(0.05 * 300 ** draw.random(), 3)  # 0.05 to 15 seconds
    env = {"run_for": str(run_for), "lines": str(draw.choice((0, 0, 1, 4)))}
    if draw.random() < 0.3:
        env |= {"fail_times": str(draw.choice((1, 1, 2, 99))), "exit_code": str(draw.randint(1, 5))}
    if draw.random() < 0.15:
        env["ignore_stop"] = "1"
    limits: dict[str, Any] = {}
    if draw.random() < 0.1:
        limits["attempt_timeout"] = round(draw.uniform(0.3, 6), 2)
    if draw.random() < 0.05:
        limits["job_deadline"] = round(draw.uniform(2, 30), 2)
    if draw.random() < 0.05:
        limits["queue_timeout"] = round(draw.uniform(2, 20), 2)
    return JobSpec(
        image="simulated",
        command=("true",),
        env=env,
        driver=Driver.MOCK,
        resources=Resources(cpu=draw.choice((0.5, 1.0, 1.0, 2.0)), memory=2**20),
        max_retries=draw.choice((0, 1, 2, 3)),
        backoff=Backoff(initial=round(draw.uniform(0.1, 1), 2), max=3.0),
        stop_grace=round(draw.uniform(0.2, 3), 2),
        priority=draw.choice((0, 0, 0, 5)),
        exclusive=draw.random() < 0.25,
        **limits,
    )


async def users(world: World, stop: asyncio.Event) -> None:
    """All users at once; they ask again, with the same key, until they are answered."""
    async with asyncio.TaskGroup() as group:
        for wish in world.wishes:
            group.create_task(_want(world, wish))
            if wish.twice:
                group.create_task(_want(world, wish))
    await stop.wait()


async def _want(world: World, wish: Wish) -> None:
    await asyncio.sleep(wish.at - world.loop.now)

    async def submitted(services: Services) -> Any:
        (result,) = await services.intake.submit([submit.new_job(wish.spec, wish.key)], access.by())
        if isinstance(result, WindlassError):
            raise result
        return result

    answer: Accepted = await _until_answered(world, submitted)
    wish.accepted.append(answer.id)
    world.note("accepted", wish.key, answer.id)
    if wish.cancel_at is not None:
        await asyncio.sleep(max(0.0, wish.cancel_at - world.loop.now))
        said = await _until_answered(world, lambda services: jobs._move(services, answer.id, CancelRequested()))
        wish.cancelled = wish.cancelled or said is None


async def _until_answered(world: World, work: Work) -> Any:
    while True:
        try:
            return await world.door.ask(work, PATIENCE_S)
        except NotFound:
            raise
        except (httpx2.HTTPError, WindlassError) as error:
            world.note("user waits", str(error))
        await asyncio.sleep(PAUSE_S)
