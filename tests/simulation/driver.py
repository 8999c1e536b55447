"""Containers, and the driver that starts them. They belong to the host: they live on when the agent dies.

Every container writes down when it ran and how it ended; this evidence, not the ledger, is what the oracle believes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.process import Host, alive
from windlass.core.states import Cause
from windlass.driver.base import Chunk, DriverFault, EngineUnavailable, Facts, Outcome, Survivor, Ticket

if TYPE_CHECKING:
    from tests.simulation.world import World

LINE = b"a line of output\n"


@dataclass(eq=False)
class Container:
    """One run of something. `ended_by`: itself, stop, kill (a stop's grace ran out), fence, power."""

    attempt_id: str
    job_id: str
    number: int
    fence: int
    host: Host
    boot: int
    exit_code: int
    natural_end: float = 0.0
    started: float | None = None
    ended: float | None = None
    ended_by: str = ""
    fenced: bool = False
    removed: bool = False
    ignores_stop: bool = False
    lines: int = 0
    over: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.started is not None and self.ended is None


class Engine:
    """All containers of the world, those that were removed too."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.containers: dict[str, Container] = {}
        self.down: set[str] = set()

    def start(self, container: Container, run_for: float) -> None:
        now = self._world.loop.now
        container.started, container.natural_end = now, now + run_for
        self._world.note("start", container.attempt_id, container.host.name)
        self._world.loop.at(container.natural_end, self.end, container, "itself")

    def end(self, container: Container, by: str) -> None:
        if container.running:
            container.ended, container.ended_by = self._world.loop.now, by
            self._world.note("end", container.attempt_id, by)
            for future in container.over:
                if not future.done():
                    future.set_result(None)
            container.over.clear()

    def on(self, host: Host) -> list[Container]:
        """What exists on a host now."""
        return [c for c in self.containers.values() if c.host is host and not c.removed]

    def kill_all(self, host: Host, by: str, *, gone: bool = False) -> None:
        """End everything of a host; with `gone` nothing is left of it either."""
        for container in self.on(host):
            self.end(container, by)
            if gone:
                container.removed = True


class SimulatedDriver:
    """windlass.driver.base.Driver over the engine. What a container does is read from its spec's env."""

    name = "mock"
    keeps_outcome = True

    def __init__(self, world: World, host: Host) -> None:
        self._world, self._host, self._engine = world, host, world.engine

    async def _verb(self, seconds: float = 0.002) -> None:
        """Every verb takes a while, and needs the engine."""
        alive()
        if self._host.name in self._engine.down:
            await asyncio.sleep(0.01)
            raise EngineUnavailable("the engine does not answer")
        await asyncio.sleep(seconds * (0.5 + self._world.random.random()))
        alive()

    async def open(self) -> None:
        await self._verb()

    async def close(self) -> None:
        return

    async def facts(self) -> Facts:
        if self._host.name in self._engine.down:
            return Facts(False, "the engine does not answer")
        return Facts(True)

    def never_started(self, attempt_id: str, received_at: float) -> bool:
        """As containers: what can't be found may have run and gone."""
        return False

    async def prepare(self, ticket: Ticket) -> None:
        await self._verb(0.05)
        known = self._engine.containers.get(ticket.attempt_id)
        if known is not None and known.started is not None and (known.removed or known.host is not self._host):
            if known.host is self._host and known.boot == self._host.boots:
                self._world.broken(f"attempt {ticket.attempt_id} is run a second time")
            self._engine.containers[f"{ticket.attempt_id} of boot {known.boot}"] = known  # gone with its machine
            known = None
        if known is None:
            env = ticket.spec.env
            self._engine.containers[ticket.attempt_id] = Container(
                ticket.attempt_id,
                ticket.job_id,
                ticket.number,
                ticket.fence,
                self._host,
                self._host.boots,
                0 if ticket.number > int(env.get("fail_times", "0")) else int(env.get("exit_code", "1")),
                ignores_stop=env.get("ignore_stop") == "1",
                lines=int(env.get("lines", "0")),
            )

    async def start(self, ticket: Ticket) -> None:
        await self._verb(0.05)
        container = self._known(ticket)
        if container.started is None:
            self._engine.start(container, float(ticket.spec.env.get("run_for", "0")))

    def _known(self, ticket: Ticket) -> Container:
        container = self._engine.containers.get(ticket.attempt_id)
        if container is None or container.removed or container.host is not self._host:
            raise DriverFault(Cause.NODE_LOST, f"attempt {ticket.attempt_id} is gone: removed by someone else")
        return container

    async def wait(self, ticket: Ticket) -> Outcome:
        container = self._known(ticket)
        if container.started is None:
            raise DriverFault(Cause.NODE_LOST, f"attempt {ticket.attempt_id} was prepared and never started")
        if container.running:
            future: asyncio.Future[None] = self._world.loop.create_future()
            container.over.append(future)
            await future
        return _outcome(container)

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        await self._verb()
        container = self._engine.containers.get(ticket.attempt_id)
        if container is None or not container.running or container.removed:
            return
        if container.ignores_stop and grace_s > 0:
            self._world.loop.at(self._world.loop.now + grace_s, self._engine.end, container, "kill")
        else:
            self._engine.end(container, "stop")

    async def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        container = self._known(ticket)
        whole = LINE * container.lines
        start = after.get("stdout", 0)
        half = len(whole) // 2
        if start < half:
            yield Chunk("stdout", start, whole[start:half])
            start = half
        if container.running:
            future: asyncio.Future[None] = self._world.loop.create_future()
            container.over.append(future)
            await future
        if start < len(whole):
            yield Chunk("stdout", start, whole[start:])

    async def remove(self, ticket: Ticket) -> None:
        await self._verb()
        container = self._engine.containers.get(ticket.attempt_id)
        if container is not None:
            self._engine.end(container, "remove")
            container.removed = True

    async def survivors(self) -> list[Survivor]:
        await self._verb()
        return [Survivor(c.attempt_id, c.fence, c.running) for c in self._engine.on(self._host)]  # type: ignore[arg-type]


def _outcome(container: Container) -> Outcome:
    match container.ended_by:
        case "itself" if container.exit_code == 0:
            return Outcome(0, None)
        case "itself":
            return Outcome(container.exit_code, Cause.EXIT_CODE, f"exited with code {container.exit_code}")
        case "power":
            return Outcome(255, Cause.NODE_LOST, "the machine went down")
        case _:
            return Outcome(137, Cause.SIGNAL, "ended by signal 9")
