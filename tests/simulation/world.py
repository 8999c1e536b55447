"""A world from a seed: hosts, servers, programs, users and faults; what happens in it follows from the seed alone."""

from __future__ import annotations

import asyncio
import errno
import signal
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation import disk, patches
from tests.simulation.database import Database
from tests.simulation.disk import DiskPath
from tests.simulation.driver import Engine, SimulatedDriver
from tests.simulation.http import Door
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Network
from tests.simulation.process import Host, Killed, Process, alive
from tests.simulation.streams import StreamServer
from tests.simulation.users import Wish
from windlass import settings
from windlass.watchdog.protocol import FENCED, LEASE

Program = Callable[["World", asyncio.Event], Awaitable[None]]
CLUSTER = "sim"
GIB = 2**30
#: How often the watchdogs look.
LOOK_S = 0.5
SELF_FENCE_S = 12.0


@dataclass
class Machine:
    """A host with its disk and the one role that runs on it."""

    host: Host
    root: DiskPath
    role: str
    program: Program
    #: the life it leads now, if any
    process: Process | None = None
    #: it is not started again until then
    held: int = 0
    lives: int = 0
    #: its watchdog's start by its own clock, if it has one
    guarded_since: float | None = None
    #: how long it lets jobs go on when it is to end
    patience_s: float = 3.0
    #: it was asked to end, so what ran there may be stopped
    drained: bool = False

    @property
    def data(self) -> DiskPath:
        return self.root / "data"


@dataclass
class World:
    """Everything there is."""

    seed: int
    tracing: bool = False
    machines: dict[str, Machine] = field(default_factory=dict)
    #: what broke, told by the world itself: unknown statements, errors that programs logged or died of
    complaints: list[str] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    digest: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        self.random = Random(f"windlass {self.seed}")
        self.loop = VirtualLoop(self.random)
        self.network = Network(self)
        self.database = Database(self)
        self.streams = StreamServer(self)
        self.engine = Engine(self)
        self.door = Door(self)

    # -- telling ------------------------------------------------------------------------------------------------------

    def note(self, kind: str, *what: Any) -> None:
        """A line of the trace; the digest of all lines is the run's fingerprint."""
        if self.over:
            return
        line = f"{self.loop.now:10.5f} {kind} {what}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        if self.tracing:
            self.trace.append(line)

    def see(self, happened: bool, what: str) -> None:
        """Counts how often something that is worth reaching was reached."""
        if happened:
            self.seen[what] = self.seen.get(what, 0) + 1

    def broken(self, what: str) -> None:
        if not self.over:
            self.note("broken", what)
            self.complaints.append(what)

    # -- machines and programs ----------------------------------------------------------------------------------------

    def machine(self, name: str, role: str, program: Program) -> Machine:
        """A machine that is switched on, its program not yet started."""
        draw = self.random
        host = Host(name, draw.uniform(100, 1e6), draw.uniform(-5, 5), 1 + draw.uniform(-2e-4, 2e-4))
        self.machines[name] = Machine(host, disk.mount(name), role, program)
        return self.machines[name]

    def start(self, machine: Machine) -> None:
        """Start its program, unless it runs or is held back."""
        if machine.held or (machine.process is not None and not machine.process.dead):
            return
        machine.lives += 1
        process = Process(f"{machine.host.name}#{machine.lives}", machine.role, machine.host, 1000 + machine.lives)
        machine.process = process
        self.note("started", process.name)
        self.loop.create_task(self._live(machine, process), context=process.context)

    async def _live(self, machine: Machine, process: Process) -> None:
        stop = asyncio.Event()
        self.loop.add_signal_handler(signal.SIGTERM, stop.set)
        try:
            await machine.program(self, stop)
            how = "exited"
        except Killed:
            how = "killed"
        except Exception as error:
            how = f"failed: {_cause(error)!r}"
            if not _no_space(_cause(error)):
                self.broken(f"{process.name} {how}")
        self.note(how, process.name)
        self.ended(machine, process)

    def ended(self, machine: Machine, process: Process, again_s: float = 0.3) -> None:
        """It is over; its supervisor starts it again after a while."""
        process.end()
        self.loop.at(self.loop.now + again_s, self.start, machine)

    def kill(self, machine: Machine, again_s: float) -> None:
        """kill -9."""
        if machine.process is not None and not machine.process.dead:
            self.note("kill", machine.process.name)
            self.ended(machine, machine.process, again_s)

    def crashed(self, process: Process, place: str) -> None:
        """It ends in the middle of something."""
        self.note("crash", process.name, place)
        self.see(True, f"crashed at {place}")
        self.ended(self.machines[process.host.name], process)

    def later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> None:
        """The world's own timer."""
        self.loop.at(self.loop.now + seconds, callback, *args)

    # -- what patches ask for -----------------------------------------------------------------------------------------

    def driver(self) -> SimulatedDriver:
        return SimulatedDriver(self, alive().host)

    def settings_of(self, machine: Machine) -> settings.Settings:
        """As its operator set them."""
        worker = settings.Worker(
            name=machine.host.name,
            data=machine.data,  # type: ignore[arg-type]
            cpu=2.0,
            memory=GIB,
            drivers=("mock",),
            drain_deadline_s=machine.patience_s,
            self_fence_s=SELF_FENCE_S,
        )
        return settings.Settings(
            cluster=CLUSTER,
            database=settings.Database(url="simulated"),
            redis=settings.Redis(url="simulated"),
            api=settings.Api(allow_anonymous=True, audit_keep_days=0),
            worker=worker,
        )

    # -- the watchdogs, by their rule ---------------------------------------------------------------------------------

    def watch(self) -> None:
        """Each worker's watchdog looks at the lease file, and ends what runs when it is too old."""
        for machine in self.machines.values():
            if machine.role == "worker":
                self._watch(machine)
        self.later(LOOK_S, self.watch)

    def _watch(self, machine: Machine) -> None:
        files = disk.disk_of(str(machine.root)).files
        running = [c for c in self.engine.on(machine.host) if c.running]
        if machine.guarded_since is None or not running:
            return
        now, lease = machine.host.since_boot(self.loop.now), files.get(str(machine.data / LEASE))
        last = min(float(lease.data), now) if lease is not None and lease.data else machine.guarded_since
        if now - last > SELF_FENCE_S:
            fenced = files.setdefault(str(machine.data / FENCED), disk.File())
            for container in running:
                fenced.data += f"{container.attempt_id}\n".encode()
                self.engine.end(container, "fence")
                container.fenced = True
            self.see(True, "fenced")

    def run(self, until: float) -> None:
        """Let the world live up to a moment."""
        with patches.living_in(self):
            self.loop.run(until)

    def close(self) -> None:
        """Let go of everything; what programs do on their way out no longer counts."""
        self.over = True
        with patches.living_in(self):
            for machine in self.machines.values():
                if machine.process is not None:
                    machine.process.end()
            self.loop.drop()


def _no_space(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
