"""The table of faults. Each is a generator: what comes before its `yield` injects it, what comes after holds and
heals it. It takes hold of its victims first, by name, so that no two faults fight over one process."""

import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from windlass.chaos import engine, servers, wires
from windlass.chaos.site import (
    Hit,
    NoTarget,
    Recovery,
    Site,
    elsewhere,
    full_speed,
    new_term,
    node_ready,
    placed,
    placed_after_heal,
)

Act = Callable[[Site, Hit], AsyncGenerator[None, None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. `at_once`: its recovery counts from the injection, else from when it is healed."""

    name: str
    component: str
    act: Act
    recovery: Recovery
    at_once: bool = False
    #: how often it is chosen, against the others
    weight: float = 1.0


async def leader_kill(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of the leader; it comes back as a standby."""
    leader = await site.leader(hit)
    hit.strike()
    await leader.kill()
    yield
    await hit.hold(0.2, 2)
    leader.start()
    hit.heal()


async def leader_stop(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """SIGTERM to the leader, as an upgrade does: it resigns."""
    leader = await site.leader(hit)
    hit.strike()
    leader.send(signal.SIGTERM)
    yield
    await leader.ended()
    leader.start()
    hit.heal()


async def leader_freeze(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """The leader sleeps past its lease, and wakes up believing that it leads."""
    leader = await site.leader(hit)
    hit.strike()
    leader.freeze()
    yield
    await hit.hold(5, 10)
    leader.thaw()
    hit.heal()


async def standby_kill(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of a scheduler that does not lead."""
    member = await site.standby(hit)
    hit.strike()
    await member.kill()
    yield
    await hit.hold(0.2, 2)
    member.start()
    hit.heal()


async def api_kill(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of an API, in the middle of whatever it answers."""
    member = site.member(hit, "api")
    hit.strike()
    await member.kill()
    yield
    await hit.hold(0.2, 3)
    member.start()
    hit.heal()


async def api_freeze(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """An API that accepts connections and says nothing."""
    member = site.member(hit, "api")
    hit.strike()
    member.freeze()
    yield
    await hit.hold(2, 10)
    member.thaw()
    hit.heal()


async def worker_restart(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of a worker's agent that is back within its lease: its jobs are adopted."""
    member = site.member(hit, "worker")
    await site.note_victims(hit)
    hit.strike()
    await member.kill()
    yield
    await hit.hold(0.2, 8)
    member.start()
    hit.heal()


async def worker_loss(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of a worker's agent that stays away: its node is lost, its jobs run elsewhere."""
    member = site.member(hit, "worker")
    await site.note_victims(hit)
    hit.strike()
    await member.kill()
    yield
    await hit.hold(21, 30)
    member.start()
    hit.heal()


async def worker_nap(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """A worker's agent frozen for less than its lease."""
    member = site.member(hit, "worker")
    hit.strike()
    member.freeze()
    yield
    await hit.hold(2, 5)
    member.thaw()
    hit.heal()


async def worker_freeze(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """A worker's agent frozen for longer than its lease, and back among jobs that run elsewhere by now."""
    member = site.member(hit, "worker")
    await site.note_victims(hit)
    hit.strike()
    member.freeze()
    yield
    await hit.hold(21, 30)
    member.thaw()
    hit.heal()


async def watchdog_kill(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of the watchdog beside a worker; its agent sees to another one."""
    member = site.member(hit, "worker")
    found = site.cluster.beside(member)
    if not found:
        raise NoTarget
    hit.strike()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    hit.heal()
    yield


async def worker_drain(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """SIGTERM to a worker, as an upgrade does, and its return."""
    member = site.member(hit, "worker")
    hit.strike()
    member.send(signal.SIGTERM)
    yield
    await member.ended()
    member.start()
    hit.heal()


async def container_kill(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Somebody kills a job's container by hand: that counts as the job's own failure."""
    if site.cluster.driver != "docker":
        raise NoTarget
    running = await engine.containers(site.cluster.name, running=True)
    if not running:
        raise NoTarget
    chosen = hit.dice.choice(sorted(running))
    site.claim(hit, chosen[:12])
    hit.strike()
    if not await engine.kill(chosen):
        raise NoTarget
    hit.heal()
    yield


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("leader-kill", "scheduler", leader_kill, new_term, at_once=True, weight=2),
        Fault("leader-stop", "scheduler", leader_stop, new_term, at_once=True),
        Fault("leader-freeze", "scheduler", leader_freeze, new_term, at_once=True),
        Fault("standby-kill", "scheduler", standby_kill, placed, at_once=True),
        Fault("api-kill", "api", api_kill, placed_after_heal),
        Fault("api-freeze", "api", api_freeze, placed_after_heal),
        Fault("worker-restart", "worker", worker_restart, node_ready, weight=2),
        Fault("worker-loss", "worker", worker_loss, elsewhere, at_once=True),
        Fault("worker-nap", "worker", worker_nap, node_ready),
        Fault("worker-freeze", "worker", worker_freeze, elsewhere, at_once=True),
        Fault("worker-drain", "worker", worker_drain, node_ready),
        Fault("watchdog-kill", "worker", watchdog_kill, node_ready),
        Fault("container-kill", "container", container_kill, placed),
        Fault("flushall", "redis", servers.flushall, full_speed),
        Fault("redis-kill", "redis", servers.redis_kill, full_speed),
        Fault("redis-freeze", "redis", servers.redis_freeze, full_speed),
        Fault("redis-oom", "redis", servers.redis_oom, full_speed),
        Fault("redis-readonly", "redis", servers.redis_readonly, full_speed),
        Fault("redis-forged", "redis", servers.redis_forged, full_speed),
        Fault("redis-doubled", "redis", servers.redis_doubled, full_speed),
        Fault("redis-trimmed", "redis", servers.redis_trimmed, full_speed),
        Fault("postgres-fast", "postgres", servers.postgres_fast, placed_after_heal),
        Fault("postgres-immediate", "postgres", servers.postgres_immediate, placed_after_heal),
        Fault("postgres-kill", "postgres", servers.postgres_kill, placed_after_heal),
        Fault("postgres-cut", "postgres", servers.postgres_cut, placed_after_heal),
        Fault("leader-cut-off", "network", wires.leader_cut_off, new_term, at_once=True),
        Fault("leader-deaf", "network", wires.leader_deaf, full_speed),
        Fault("leader-slow", "network", wires.leader_slow, placed, at_once=True),
        Fault("worker-hiccup", "network", wires.worker_hiccup, node_ready),
        Fault("worker-cut-off", "network", wires.worker_cut_off, elsewhere, at_once=True),
        Fault("worker-deaf", "network", wires.worker_deaf, node_ready),
        Fault("worker-no-api", "network", wires.worker_no_api, node_ready),
        Fault("resets", "network", wires.resets, placed_after_heal),
        Fault("accept-unknown", "network", wires.accept_unknown, placed_after_heal),
        Fault("move-unknown", "network", wires.move_unknown, placed_after_heal),
        Fault("power-cut", "all", servers.power_cut, placed_after_heal, weight=0.5),
    )
}
