"""Faults: what can go wrong in a world, each with its beginning and its end. The seed says which, when and how long."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

from tests.simulation import disk

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

#: A fault begins when called, and returns what ends it, if it does not end by itself.
End = Callable[[], None] | None
Fault = Callable[["World", Random, float], End]

FAULTS: dict[str, tuple[int, Fault]] = {}


def fault(weight: int) -> Callable[[Fault], Fault]:
    """Marks a fault; `weight` says how often it is drawn."""

    def known(function: Fault) -> Fault:
        FAULTS[function.__name__] = (weight, function)
        return function

    return known


def duration(draw: Random) -> float:
    """Seconds, so drawn that each limit of the design (3, 6, 12, 15 s) is now and then just missed or just passed."""
    return draw.choice((draw.uniform(0.02, 1), draw.uniform(0.5, 4), draw.uniform(3, 9), draw.uniform(8, 22)))


def some(world: World, draw: Random, *roles: str) -> Machine:
    """A machine with one of these roles."""
    return draw.choice([m for m in world.machines.values() if m.role in roles])


def leading(world: World, draw: Random) -> Machine:
    """The machine that leads as far as the ledger knows, or any scheduler."""
    lease = world.database.ledger.lease
    holder = "" if lease is None else str(lease["holder"])
    row = world.database.ledger.schedulers.get(holder, {"host": holder.partition("/")[0]})
    machine = world.machines.get(str(row["host"]))
    return machine if machine is not None else some(world, draw, "scheduler")


def plan(world: World, draw: Random, since: float, until: float) -> Iterator[tuple[float, str, float]]:
    """(moment, fault, seconds it lasts): a few, in a window."""
    names = list(FAULTS)
    weights = [weight for weight, _ in FAULTS.values()]
    for name in draw.choices(names, weights, k=draw.choice((0, 1, 2, 3, 4, 6, 8))):
        yield draw.uniform(since, until), name, duration(draw)


def begin(world: World, name: str, draw: Random, seconds: float) -> None:
    """Let a fault happen, and end."""
    world.note("fault", name, round(seconds, 3))
    world.see(True, name)
    end = FAULTS[name][1](world, draw, seconds)
    if end is not None:
        world.later(seconds, ended, world, name, end)


def ended(world: World, name: str, end: Callable[[], None]) -> None:
    world.note("fault ends", name)
    end()


# -- processes --------------------------------------------------------------------------------------------------------


def _kill(world: World, machine: Machine, seconds: float) -> End:
    machine.held += 1
    world.kill(machine, 0.0)

    def back() -> None:
        machine.held -= 1
        world.start(machine)

    return back


@fault(4)
def leader_killed(world: World, draw: Random, seconds: float) -> End:
    return _kill(world, leading(world, draw), min(seconds, 5.0))


@fault(2)
def scheduler_killed(world: World, draw: Random, seconds: float) -> End:
    return _kill(world, some(world, draw, "scheduler"), seconds)


@fault(4)
def worker_killed(world: World, draw: Random, seconds: float) -> End:
    return _kill(world, some(world, draw, "worker"), seconds)


@fault(1)
def api_killed(world: World, draw: Random, seconds: float) -> End:
    return _kill(world, some(world, draw, "api"), seconds)


@fault(2)
def role_restarted(world: World, draw: Random, seconds: float) -> End:
    """SIGTERM, or SIGHUP for a restart in place; its supervisor starts it again."""
    machine = some(world, draw, "scheduler", "worker", "worker")
    machine.patience_s, machine.drained = draw.choice((0.5, 3.0, 30.0)), True
    if machine.process is not None:
        number = draw.choice((signal.SIGTERM, signal.SIGHUP)) if machine.role == "worker" else signal.SIGTERM
        world.loop.signal(machine.process, number)
    return None


@fault(3)
def crash_point(world: World, draw: Random, seconds: float) -> End:
    """The next visits of a crash point are the last."""
    name = draw.choice(("scheduler.committed", "worker.journalled", "submit.committed"))
    role = {"scheduler": "scheduler", "worker": "worker", "submit": "api"}[name.partition(".")[0]]
    machine = leading(world, draw) if role == "scheduler" else some(world, draw, role)
    if machine.process is not None:
        machine.process.armed[name] = draw.randint(1, 3)
    return None


def _pause(world: World, machine: Machine) -> End:
    process = machine.process
    if process is None or process.dead or process.paused:
        return None
    process.paused = True

    def go_on() -> None:
        process.paused = False
        world.loop.adopt(process.backlog)
        process.backlog.clear()

    return go_on


@fault(4)
def leader_paused(world: World, draw: Random, seconds: float) -> End:
    return _pause(world, leading(world, draw))


@fault(4)
def worker_paused(world: World, draw: Random, seconds: float) -> End:
    return _pause(world, some(world, draw, "worker"))


@fault(2)
def power_cut(world: World, draw: Random, seconds: float) -> End:
    """A worker's machine goes down: its containers are gone, and what its disk had not synced may be."""
    machine = some(world, draw, "worker")
    back = _kill(world, machine, seconds)
    disk.disk_of(str(machine.root)).power_cut(draw)
    world.engine.kill_all(machine.host, "power", gone=draw.random() < 0.5)
    world.engine.end_life(machine.host)
    machine.host.boots += 1
    machine.guarded_since = None
    machine.host.boot_offset = 10.0 - world.loop.now
    return back


# -- links and clocks -------------------------------------------------------------------------------------------------


@fault(4)
def partition(world: World, draw: Random, seconds: float) -> End:
    """A machine reaches some or none of the servers."""
    machine = some(world, draw, "scheduler", "worker", "worker")
    servers = draw.choice((["ledger", "stream", "api"], ["stream"], ["ledger", "api"]))
    cut = [server for server in servers if server not in machine.host.cut]
    machine.host.cut.update(cut)
    return lambda: machine.host.cut.difference_update(cut)


@fault(1)
def slow_network(world: World, draw: Random, seconds: float) -> End:
    world.network.slowness = draw.choice((10.0, 100.0))

    def fast() -> None:
        world.network.slowness = 1.0

    return fast


@fault(2)
def wall_clock_jumps(world: World, draw: Random, seconds: float) -> End:
    host = draw.choice(list(world.machines.values())).host
    host.wall_offset += draw.choice((3600.0, -3600.0, 7.0, -7.0))
    return None


# -- servers ----------------------------------------------------------------------------------------------------------


@fault(2)
def ledger_restarts(world: World, draw: Random, seconds: float) -> End:
    if not world.database.up:
        return None
    world.database.stop()

    def up() -> None:
        world.database.up = True

    return up


@fault(2)
def ledger_stalls(world: World, draw: Random, seconds: float) -> End:
    world.database.stalled_until = max(world.database.stalled_until, world.loop.now + seconds)
    return None


@fault(3)
def ledger_connections_break(world: World, draw: Random, seconds: float) -> End:
    world.database.cut_share = draw.choice((0.02, 0.1, 0.3))

    def whole() -> None:
        world.database.cut_share = 0.0

    return whole


@fault(2)
def stream_restarts(world: World, draw: Random, seconds: float) -> End:
    if not world.streams.up:
        return None
    world.streams.stop()
    if draw.random() < 0.7:
        world.streams.streams.clear()

    def up() -> None:
        world.streams.up = True

    return up


@fault(3)
def stream_forgets(world: World, draw: Random, seconds: float) -> End:
    """FLUSHALL."""
    world.streams.flush()
    return None


@fault(2)
def stream_entries_suffer(world: World, draw: Random, seconds: float) -> End:
    """Entries are lost or doubled, as by trimming, eviction or a replayed append."""
    world.streams.lost_share, world.streams.doubled_share = draw.choice(
        ((0.1, 0.0), (0.5, 0.0), (0.0, 0.3), (0.2, 0.2))
    )

    def whole() -> None:
        world.streams.lost_share = world.streams.doubled_share = 0.0

    return whole


@fault(1)
def stream_refuses(world: World, draw: Random, seconds: float) -> End:
    world.streams.refusal = draw.choice(
        ("READONLY You can't write against a read only replica.", "OOM command not allowed")
    )

    def takes() -> None:
        world.streams.refusal = ""

    return takes


@fault(1)
def api_refuses(world: World, draw: Random, seconds: float) -> End:
    world.door.refusing = True

    def takes() -> None:
        world.door.refusing = False

    return takes


@fault(2)
def engine_down(world: World, draw: Random, seconds: float) -> End:
    host = some(world, draw, "worker").host
    world.engine.down.add(host.name)
    return lambda: world.engine.begin_life(host)


@fault(2)
def engine_killed(world: World, draw: Random, seconds: float) -> End:
    """It takes its containers down, as it ends or as it begins again; at times its worker is away meanwhile."""
    machine = some(world, draw, "worker")
    host = machine.host
    back = _kill(world, machine, seconds + draw.uniform(0, 2)) if draw.random() < 0.5 else None
    world.engine.end_life(host)
    world.engine.down.add(host.name)
    if draw.random() < 0.5:
        world.engine.kill_all(host, "engine")

    def up() -> None:
        world.engine.begin_life(host)
        if back is not None:
            back()

    return up


@fault(1)
def disk_full(world: World, draw: Random, seconds: float) -> End:
    machine_disk = disk.disk_of(str(some(world, draw, "worker").root))
    machine_disk.full = machine_disk.was_full = True
    machine_disk.room = 0

    def roomy() -> None:
        machine_disk.full = False

    return roomy
