"""Pulls from a registry on loopback: only what is missing, once for all who ask, in time, with progress."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from tests.driver.conftest import DockerStage
from tests.driver.play import opened, run
from tests.registry import Registry
from tests.support import HANG_S, wait_until
from windlass.core.states import Cause
from windlass.driver.base import DriverFault
from windlass.driver.docker_images import split_reference


@pytest.fixture
def registry(docker: DockerStage) -> Iterator[Registry]:
    with Registry(docker.cluster) as made:
        yield made
        for image in (f"{made.image}:1", f"{made.image}@{made.digest}"):
            subprocess.run(["docker", "rmi", "-f", image], capture_output=True)


@pytest.mark.docker
@pytest.mark.parametrize("by_digest", [False, True])
def test_a_missing_image_is_pulled_once_for_all_who_ask(docker: DockerStage, registry: Registry, by_digest: bool):
    told: list[tuple[str, str]] = []
    image = f"{registry.image}@{registry.digest}" if by_digest else f"{registry.image}:1"

    async def scenario():
        async with opened(docker.driver(progress=lambda name, line: told.append((name, line)))) as driver:
            spec = replace(docker.exits(3), image=image)
            outcomes = await asyncio.gather(*(run(docker, driver, docker.ticket(spec)) for _ in range(3)))
            assert [outcome.exit_code for outcome in outcomes] == [3, 3, 3]
            assert max(registry.blobs_asked()) == 1
            before = registry.asked.total()
            await run(docker, driver, docker.ticket(spec))
            assert registry.asked.total() == before

    asyncio.run(scenario())
    assert told
    assert told[0][0] == image
    assert "layers" in told[0][1]


def pulls() -> tuple[float, float]:
    """All that ended, and those that failed."""
    names = "windlass_worker_image_pull_seconds_count", "windlass_worker_image_pull_failures_total"
    ended, failed = (REGISTRY.get_sample_value(name) or 0.0 for name in names)
    return ended, failed


@pytest.mark.docker
def test_pulls_and_their_failures_are_counted(docker: DockerStage, registry: Registry):
    ended, failed = pulls()

    async def scenario():
        async with opened(docker.driver()) as driver:
            await run(docker, driver, docker.ticket(replace(docker.exits(0), image=f"{registry.image}:1")))
            with pytest.raises(DriverFault):
                await driver.prepare(docker.ticket(replace(docker.exits(0), image=f"{registry.image}:missing")))

    asyncio.run(scenario())
    assert pulls() == (ended + 2, failed + 1)


@pytest.mark.docker
def test_a_pull_has_a_time_limit_of_its_own(docker: DockerStage, registry: Registry):
    registry.open.clear()

    async def scenario():
        async with opened(docker.driver(pull_timeout_s=0.5)) as driver:
            with pytest.raises(DriverFault, match=r"not pulled within 0\.5 s") as fault:
                await driver.prepare(docker.ticket(replace(docker.exits(0), image=f"{registry.image}:1")))
            assert fault.value.cause is Cause.IMAGE_PULL

    asyncio.run(scenario())


@pytest.mark.docker
def test_one_who_gives_up_does_not_spoil_it_for_the_others(docker: DockerStage, registry: Registry):
    registry.open.clear()

    async def scenario():
        async with opened(docker.driver()) as driver:
            spec = replace(docker.exits(0), image=f"{registry.image}:1")
            asked = [asyncio.create_task(driver.prepare(docker.ticket(spec))) for _ in range(2)]
            await wait_until(registry.blobs_asked, "the pull has begun")
            asked[0].cancel()
            await asyncio.wait([asked[0]])
            registry.open.set()
            await asyncio.wait_for(asked[1], HANG_S)

    asyncio.run(scenario())


@pytest.mark.docker
def test_a_tag_that_is_not_there_is_told_in_the_engines_words(docker: DockerStage, registry: Registry):
    async def scenario():
        async with opened(docker.driver()) as driver:
            with pytest.raises(DriverFault, match="manifest unknown") as fault:
                await driver.prepare(docker.ticket(replace(docker.exits(0), image=f"{registry.image}:nosuch")))
            assert fault.value.cause is Cause.IMAGE_PULL

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("ubuntu", "ubuntu", "latest"),
        ("python:3.12-slim", "python", "3.12-slim"),
        ("host:5000/a/b", "host:5000/a/b", "latest"),
        ("host:5000/a/b:c", "host:5000/a/b", "c"),
        ("a/b@sha256:" + "0" * 64, "a/b@sha256:" + "0" * 64, ""),
        ("a/b:c@sha256:" + "0" * 64, "a/b:c@sha256:" + "0" * 64, ""),
    ],
)
def test_a_reference_without_a_tag_means_latest_not_all(image: str, name: str, tag: str):
    assert split_reference(image) == (name, tag)
