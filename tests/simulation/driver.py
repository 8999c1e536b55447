"""Containers, and the driver that starts them. They belong to the host: they live on when the agent dies.

Every container writes down when it ran and how it ended; this evidence, not the ledger, is what the oracle believes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.simulation.process import Host, alive
from windlass.core.states import Cause
from windlass.driver.base import Chunk, DriverFault, EngineUnavailable, Facts, Outcome, Survivor, Ticket
from windlass.driver.taken_down import TICK_S, Outages, taken_down, unseen

if TYPE_CHECKING:
    from tests.simulation.world import World

LINE = b"a line of output\n"
SWEEP_S, RETRY_S = 2.0, 0.3


@dataclass(eq=False)
class Container:
    """One run of something. `ended_by`: itself, stop, kill (a stop's grace ran out), fence, engine, power. `life`: the
    engine's that started it."""

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
    life: int = 0
    #: by the host's wall clock
    wall: list[float] = field(default_factory=list)
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
        self.lives: dict[str, int] = {}
        self._streams: dict[str, list[asyncio.Future[None]]] = {}

    def start(self, container: Container, run_for: float) -> None:
        now = self._world.loop.now
        container.started, container.natural_end = now, now + run_for
        container.life, container.wall = self.lives.get(container.host.name, 1), [container.host.wall(now)]
        self._world.note("start", container.attempt_id, container.host.name)
        self._world.loop.at(container.natural_end, self.end, container, "itself")

    def end(self, container: Container, by: str) -> None:
        if container.running:
            container.ended, container.ended_by = self._world.loop.now, by
            container.wall.append(container.host.wall(container.ended))
            self._world.note("end", container.attempt_id, by)
            _tell(container.over)

    def events(self, host: Host) -> asyncio.Future[None]:
        """A stream of events: over when the engine ends."""
        stream: asyncio.Future[None] = self._world.loop.create_future()
        self._streams.setdefault(host.name, []).append(stream)
        return stream

    def end_life(self, host: Host) -> None:
        """Its process ends: another one has no memory of what this one started."""
        self.lives[host.name] = self.lives.get(host.name, 1) + 1
        _tell(self._streams.get(host.name, []))

    def begin_life(self, host: Host) -> None:
        """It ends what an earlier life of it started and left running."""
        for container in self.on(host):
            if container.life != self.lives.get(host.name, 1):
                self.end(container, "engine")
        self.down.discard(host.name)

    def on(self, host: Host) -> list[Container]:
        """What exists on a host now."""
        return [c for c in self.containers.values() if c.host is host and not c.removed]

    def kill_all(self, host: Host, by: str, *, gone: bool = False) -> None:
        """End everything of a host; with `gone` nothing is left of it either."""
        for container in self.on(host):
            self.end(container, by)
            if gone:
                container.removed = True


def _tell(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
    waiting.clear()


class SimulatedDriver:
    """windlass.driver.base.Driver over the engine. What a container does is read from its spec's env."""

    name = "mock"
    keeps_outcome = True
    watched = True

    def __init__(self, world: World, host: Host) -> None:
        self._world, self._host, self._engine = world, host, world.engine
        self._outages = Outages()
        self._listening: asyncio.Future[list[None]] | None = None

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
        if self._listening is None:
            self._listening = asyncio.gather(self._listen(), self._tick())

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self) -> None:
        """As docker_endings: a stream that breaks, and a look every two seconds."""
        while True:
            try:
                await self._verb()
                stream = self._engine.events(self._host)
                while not stream.done():
                    self._outages.answered()
                    await asyncio.wait([stream], timeout=SWEEP_S)
                    if not stream.done():
                        await self._verb()
            except EngineUnavailable:
                pass
            self._outages.away()
            await asyncio.sleep(RETRY_S)

    async def _tick(self) -> None:
        while True:
            self._outages.tick()
            await asyncio.sleep(TICK_S)

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
        seen = container.running
        if seen:
            future: asyncio.Future[None] = self._world.loop.create_future()
            container.over.append(future)
            await future
        await self._reached()
        return await self._outcome(ticket, container, seen=seen)

    async def _reached(self) -> None:
        while self._host.name in self._engine.down:
            self._outages.away()
            await asyncio.sleep(RETRY_S)

    async def _outcome(self, ticket: Ticket, container: Container, *, seen: bool) -> Outcome:
        """As DockerDriver's."""
        outcome = replace(_raw(container), ran_s=container.wall[1] - container.wall[0])
        if outcome.cause is None:
            return outcome
        try:
            await self._verb()
        except EngineUnavailable:
            self._outages.away()
        if self._outages.cover(*container.wall):
            return taken_down(outcome, "the engine went away")
        if seen and self._outages.watched(container.wall[-1]):
            return outcome
        same_engine = container.life == self._engine.lives.get(self._host.name, 1)
        return unseen(outcome, rebooted=ticket.rebooted, same_engine=same_engine)

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


def _raw(container: Container) -> Outcome:
    """As an engine tells it."""
    match container.ended_by:
        case "itself" if container.exit_code == 0:
            return Outcome(0, None)
        case "itself":
            return Outcome(container.exit_code, Cause.EXIT_CODE, f"exited with code {container.exit_code}")
        case "power":
            return Outcome(255, Cause.EXIT_CODE, "exited with code 255")
        case "engine":
            return Outcome(143, Cause.SIGNAL, "ended by SIGTERM")
        case _:
            return Outcome(137, Cause.SIGNAL, "ended by signal 9")
