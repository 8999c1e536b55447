"""What windlass sees of the world while a simulation runs: every module's own names for clocks, disks, connections and
chance are replaced by simulated ones. Found by identity, so that modules need no seams and new ones are covered.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pkgutil
import platform
import random
import secrets
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import windlass.crash
import windlass.driver.keeper
import windlass.http
import windlass.store.db
import windlass.store.pool
import windlass.stream.produce
from tests.simulation.disk import Fcntl, Os, Shutil
from tests.simulation.http import Client
from tests.simulation.process import EPOCH, PROCESS, Killed, alive

if TYPE_CHECKING:
    from tests.simulation.world import World

_LAYERS = ("core", "store", "stream", "scheduler", "worker", "api")
_world: World | None = None


def world() -> World:
    assert _world is not None, "no simulated world is running"
    return _world


class Clock:
    """In place of the module `time`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        process = PROCESS.get()
        now = world().loop.now
        return now if process is None else process.host.since_boot(now)

    perf_counter = monotonic

    def clock_gettime(self, which: int) -> float:
        return self.time() if which == time.CLOCK_REALTIME else self.monotonic()

    def time(self) -> float:
        process = PROCESS.get()
        now = world().loop.now
        return EPOCH + now if process is None else process.host.wall(now)

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("a program blocks its loop with time.sleep")


class Chance:
    """In place of the modules `random` and `secrets`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(world().random, name)

    def randbits(self, bits: int) -> int:
        return world().random.getrandbits(bits)

    def token_hex(self, size: int = 16) -> str:
        return world().random.randbytes(size).hex()


class Machine:
    """In place of the module `platform`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(platform, name)

    def node(self) -> str:
        return alive().host.name


def _http_client(*, timeout: float = 30.0, **_: Any) -> Client:
    return Client(world().door, timeout)


def _crash_point(name: str) -> None:
    process = PROCESS.get()
    if process is None or process.dead:
        return
    left = process.armed.get(name)
    if left is not None:
        process.armed[name] = left - 1
        if left <= 1:
            world().crashed(process, name)
            raise Killed


def _boot_id() -> str:
    host = alive().host
    return f"{host.boots:08x}-{host.name}"


async def _connect(url: str, role: str, **_: Any) -> Any:
    return await world().database.connect(url, role)


def _connect_stream(url: str, *_: Any, **__: Any) -> Any:
    return world().streams.connect(url)


def _pool(url: str, role: str, size: int, **_: Any) -> Any:
    return world().database.pool(url, role, size)


def _readable(connection: Any) -> bool:
    return connection.closed


class Keeper:
    """In place of windlass.driver.keeper.Keeper: the watchdog of this machine, which the world plays."""

    def __init__(self, folder: Any, node_id: str, limit_s: float, first: Any = lambda: None) -> None:
        self._first = first
        self.guard = lambda *_: None

    async def hold(self) -> None:
        machine = world().machines[alive().host.name]
        if machine.guarded_since is None:
            self._first()
            machine.guarded_since = machine.host.since_boot(world().loop.now)

    async def close(self) -> None:
        return


def _modules() -> list[ModuleType]:
    for layer in _LAYERS:
        package = importlib.import_module(f"windlass.{layer}")
        for info in pkgutil.iter_modules(package.__path__):
            if info.name != "ui":
                importlib.import_module(f"windlass.{layer}.{info.name}")
    return [module for name, module in sys.modules.items() if name.split(".")[0] == "windlass"]


def _replacements() -> dict[int, Any]:
    import windlass.worker.clock as worker_clock

    chance = Chance()
    return {
        id(time): Clock(),
        id(random): chance,
        id(secrets): chance,
        id(platform): Machine(),
        id(windlass.http.HttpClient): _http_client,
        id(fcntl): Fcntl(),
        id(shutil): Shutil(),
        id(windlass.store.db.connect): _connect,
        id(windlass.store.db.make_pool): _pool,
        id(windlass.stream.produce.connect): _connect_stream,
        id(windlass.store.pool._readable): _readable,
        id(windlass.driver.keeper.Keeper): Keeper,
        id(windlass.crash.point): _crash_point,
        id(worker_clock.boot_id): _boot_id,
        id(os): Os(),
    }


#: Modules whose `os` is the real one: they look at processes or settings, not at a worker's disk.
_REAL_OS = (
    "windlass.settings",
    "windlass.sources",
    "windlass.service",
    "windlass.crash",
    "windlass.embedded",
    "windlass.driver",
)


@contextmanager
def simulated() -> Generator[None]:
    """While inside, windlass lives in simulated worlds."""
    new = _replacements()
    undo: list[tuple[Any, str, Any]] = []
    for module in _modules():
        for name, value in list(vars(module).items()):
            if id(value) not in new or (value in (os, shutil) and module.__name__.startswith(_REAL_OS)):
                continue
            undo.append((module, name, value))
            setattr(module, name, new[id(value)])
    undo += _specials()
    undo += _defaults()
    try:
        yield
    finally:
        for module, name, value in reversed(undo):
            setattr(module, name, value)


def _specials() -> list[tuple[ModuleType, str, Any]]:
    """Names that are imported where they are used."""
    import windlass.driver.mock as mock

    before = mock.MockDriver
    mock.MockDriver = lambda root: world().driver()  # type: ignore[assignment,misc]
    return [(mock, "MockDriver", before)]


def _defaults() -> list[tuple[Any, str, Any]]:
    """Clocks that are defaults of parameters."""
    clock, undo = Clock(), list[tuple[Any, str, Any]]()
    new = {time.monotonic: clock.monotonic, time.time: clock.time}
    for module in _modules():
        for owner in [module, *(v for v in vars(module).values() if isinstance(v, type))]:
            for function in [f for f in vars(owner).values() if isinstance(f, FunctionType) and f.__defaults__]:
                before = function.__defaults__ or ()
                after = tuple(new.get(d, d) if callable(d) else d for d in before)
                if after != before:
                    undo.append((function, "__defaults__", before))
                    function.__defaults__ = after
    return undo


@contextmanager
def living_in(new: World) -> Generator[None]:
    """The world that windlass sees."""
    global _world
    _world, before = new, _world
    try:
        yield
    finally:
        _world = before
