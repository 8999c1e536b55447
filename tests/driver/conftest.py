"""Stages: one per driver, each knowing how a spec looks there that exits, prints, sleeps, or cannot run."""

import asyncio
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.images import busybox_image, docker_missing
from tests.kubernetes.standin.server import Cluster
from tests.support import HANG_S
from windlass.core.ids import ATTEMPT, JOB, NODE, AttemptId, JobId
from windlass.core.placement.snapshot import Room
from windlass.core.spec import JobSpec, Resources
from windlass.core.states import Driver as Kind
from windlass.driver.base import Driver, Ticket
from windlass.driver.docker import DockerDriver
from windlass.driver.keeper import Keeper
from windlass.driver.kubernetes import KubernetesDriver
from windlass.driver.kubernetes_access import Access, Token
from windlass.driver.mock import MockDriver
from windlass.driver.process import ProcessDriver
from windlass.mint import new_id


@dataclass
class Stage:
    """A place to play attempts on. `driver()` makes a new instance over the same ground, as a restarted agent would."""

    root: Path
    cluster: str = field(default_factory=lambda: new_id(JOB))
    node: str = field(default_factory=lambda: new_id(NODE))
    tickets: list[Ticket] = field(default_factory=list)

    kind = Kind.MOCK
    runs_commands = False

    def driver(self) -> Driver:
        return MockDriver(self.root / "mock")

    def ticket(self, spec: JobSpec, number: int = 1) -> Ticket:
        attempt_id = AttemptId(new_id(ATTEMPT))
        ticket = Ticket(attempt_id, JobId(new_id(JOB)), number, 7, spec, self.root / attempt_id)
        ticket.folder.mkdir()
        self.tickets.append(ticket)
        return ticket

    def exits(self, code: int) -> JobSpec:
        return self._mock(exit_code=str(code))

    def dies_of(self, signal: int) -> JobSpec:
        return self._mock(signal=str(signal))

    def prints(self, out: str, err: str) -> JobSpec:
        return self._mock(output=out, errors=err)

    def sleeps(self, seconds: float, exit_code: int = 0) -> JobSpec:
        return self._mock(run_for=str(seconds), exit_code=str(exit_code))

    def deaf(self) -> JobSpec:
        """Runs a minute and ignores SIGTERM; prints "deaf" once it does."""
        return self._mock(run_for="60", ignore_stop="1", output="deaf\n")

    def unrunnable(self) -> JobSpec:
        return self._mock(fault="start_failed")

    def unknown_image(self) -> JobSpec | None:
        return self._mock(fault="image_pull")

    def _mock(self, **env: str) -> JobSpec:
        return JobSpec(image="mock", command=("mock",), env=env, driver=self.kind)


class CommandStage(Stage):
    """For drivers that run real commands."""

    runs_commands = True

    def shell(self, script: str, **more: Any) -> JobSpec:
        return replace(self.base(), command=("sh", "-c", script), **more)

    def base(self) -> JobSpec:
        raise NotImplementedError

    def exits(self, code: int) -> JobSpec:
        return self.shell(f"exit {code}")

    def dies_of(self, signal: int) -> JobSpec:
        return self.shell(f"kill -{signal} $$; sleep 10")

    def prints(self, out: str, err: str) -> JobSpec:
        return self.shell(f"printf %s {shlex.quote(out)}; printf %s {shlex.quote(err)} >&2")

    def sleeps(self, seconds: float, exit_code: int = 0) -> JobSpec:
        return self.shell(f"sleep {seconds}; exit {exit_code}")

    def deaf(self) -> JobSpec:
        return self.shell("trap '' TERM; echo deaf; for i in 1 2 3 4 5 6 7 8 9; do sleep 5; done")

    def unrunnable(self) -> JobSpec:
        return replace(self.base(), command=("/no/such/command",))

    def unknown_image(self) -> JobSpec | None:
        return None


@dataclass
class DockerStage(CommandStage):
    url: str | None = None

    kind = Kind.DOCKER

    def driver(self, **more: Any) -> DockerDriver:
        return DockerDriver(cluster=self.cluster, node_id=self.node, url=self.url, **more)

    def base(self) -> JobSpec:
        small = Resources(cpu=1, memory=64 * 2**20)
        return JobSpec(image=busybox_image(self.url), network="none", driver=Kind.DOCKER, resources=small)

    def unknown_image(self) -> JobSpec | None:
        return replace(self.base(), image="127.0.0.1:9/no/such/image:1", command=("true",))


@dataclass
class KubernetesStage(CommandStage):
    """Pods of a stand-in cluster, which runs each as a real container: see tests/kubernetes/standin."""

    cluster_options: dict[str, Any] = field(default_factory=dict[str, Any])

    kind = Kind.KUBERNETES

    def __post_init__(self) -> None:
        self.kubernetes = Cluster(**self.cluster_options).__enter__()

    def driver(self, **more: Any) -> KubernetesDriver:
        access = Access(self.kubernetes.url, self.kubernetes.namespace, Token(self.kubernetes.token), None)
        room = Room(4000, 2**30)
        return KubernetesDriver(access, cluster=self.cluster, node_id=self.node, **{"room": room} | more)

    def base(self) -> JobSpec:
        small = Resources(cpu=1, memory=64 * 2**20)
        return JobSpec(image=busybox_image(), driver=Kind.KUBERNETES, resources=small)

    def unknown_image(self) -> JobSpec | None:
        return replace(self.base(), image="127.0.0.1:9/no/such/image:1", command=("true",))


class Processes(ProcessDriver):
    """With a connection of its own to the folder's watchdog."""

    def __init__(self, root: Path, node_id: str, keeper: Keeper) -> None:
        super().__init__(root, node_id, keeper)
        self.keeper = keeper

    async def close(self) -> None:
        await super().close()
        await self.keeper.close()


class ProcessStage(CommandStage):
    kind = Kind.PROCESS

    def driver(self) -> "Processes":
        return Processes(self.root / "slots", self.node, Keeper(self.root, self.node, 120))

    def base(self) -> JobSpec:
        return JobSpec(driver=Kind.PROCESS)


_STAGES = {"mock": Stage, "docker": DockerStage, "process": ProcessStage, "kubernetes": KubernetesStage}


def _missing(name: str) -> str:
    if name in ("docker", "kubernetes"):
        return docker_missing()
    return ""


def _stage(name: str, root: Path) -> Iterator[Stage]:
    if why := _missing(name):
        pytest.skip(why)
    stage = _STAGES[name](root)
    yield stage
    if isinstance(stage, KubernetesStage):
        stage.kubernetes.__exit__()
    else:
        asyncio.run(_clear(stage))


async def _clear(stage: Stage) -> None:
    driver = stage.driver()
    await driver.open()
    for ticket in stage.tickets:
        await driver.stop(ticket, 0)
        await driver.remove(ticket)
    await driver.close()


_IN_CONTAINERS = [pytest.param(name, marks=pytest.mark.docker) for name in ("docker", "kubernetes")]


@pytest.fixture(params=["mock", *_IN_CONTAINERS, "process"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Each driver in turn."""
    yield from _stage(request.param, tmp_path)


@pytest.fixture(params=[*_IN_CONTAINERS, "process"])
def commands(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandStage]:
    """Each driver that runs real commands."""
    for made in _stage(request.param, tmp_path):
        assert isinstance(made, CommandStage)
        yield made


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[DockerStage]:
    """A real Docker Engine."""
    for made in _stage("docker", tmp_path):
        assert isinstance(made, DockerStage)
        yield made


def docker_command(*arguments: str) -> str:
    """What the docker command prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, timeout=HANG_S).stdout
