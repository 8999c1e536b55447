"""What the Docker driver adds to a container over the bare Engine API, both measured in turn in the same run.

    python -m tests.driver.overhead [containers per round] [rounds]

Bare is create, start, wait and delete with nothing else; ours also reads the exit state and the output, as an agent
does. Both run `true` with the same image, limits and no network.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from tests.driver.conftest import DockerStage
from tests.driver.play import opened, read
from windlass.core.spec import JobSpec
from windlass.driver.docker import DockerDriver
from windlass.driver.docker_engine import Engine, container
from windlass.driver.docker_profile import Profile, container_body, ownership

One = Callable[[], Awaitable[None]]


def ours(stage: DockerStage, driver: DockerDriver, spec: JobSpec) -> One:
    async def one() -> None:
        ticket = stage.ticket(spec)
        await driver.prepare(ticket)
        await driver.start(ticket)
        outcome, output = await asyncio.gather(driver.wait(ticket), read(driver, ticket))
        assert outcome.exit_code == 0
        assert not output["stdout"]
        await driver.remove(ticket)

    return one


def bare(stage: DockerStage, engine: Engine, spec: JobSpec) -> One:
    async def one() -> None:
        ticket = stage.ticket(spec)
        labels = ownership(ticket, "bare", stage.node)
        body = container_body(ticket, labels=labels, profile=Profile.STANDARD, binds=[])
        name = ticket.attempt_id
        await engine.call("POST", "/containers/create", params={"name": name}, body=body)
        await engine.call("POST", container(name, "/start"))
        await engine.call("POST", container(name, "/wait"))
        await engine.call("DELETE", container(name))

    return one


async def timed(one: One, count: int, at_once: int) -> tuple[float, list[float]]:
    """Containers a second, and each one's milliseconds."""
    took: list[float] = []
    left = iter(range(count))

    async def lane() -> None:
        for _ in left:
            began = time.perf_counter()
            await one()
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(at_once)))
    return count / (time.perf_counter() - began), took


async def main(count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = DockerStage(Path(folder))
        spec = replace(stage.base(), command=("true",))
        engine = Engine()
        await engine.open()
        async with opened(stage.driver()) as driver:
            assert isinstance(driver, DockerDriver)
            kinds = {"bare": bare(stage, engine, spec), "ours": ours(stage, driver, spec)}
            for at_once in (1, 2):
                rates: dict[str, list[float]] = {kind: [] for kind in kinds}
                times: dict[str, list[float]] = {kind: [] for kind in kinds}
                for turn in range(rounds):
                    for kind in list(kinds) if turn % 2 else list(kinds)[::-1]:
                        rate, took = await timed(kinds[kind], count, at_once)
                        rates[kind].append(rate)
                        times[kind] += took
                report(at_once, rates, times)
        await engine.close()


def report(at_once: int, rates: dict[str, list[float]], times: dict[str, list[float]]) -> None:
    rate = {kind: statistics.median(values) for kind, values in rates.items()}
    p50 = {kind: statistics.median(values) for kind, values in times.items()}
    print(
        f"{at_once} at once: bare {rate['bare']:.1f}/s p50 {p50['bare']:.1f} ms, "
        f"ours {rate['ours']:.1f}/s p50 {p50['ours']:.1f} ms; "
        f"rate {rate['ours'] / rate['bare']:.2f} of bare, added p50 {p50['ours'] - p50['bare']:+.1f} ms"
    )


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    asyncio.run(main(*(numbers + [20, 6][len(numbers) :])))
