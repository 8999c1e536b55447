"""What a run must not leave behind: processes, containers, pending entries, rows on their way, memory."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError, ResponseError

from windlass.chaos import engine
from windlass.chaos.cluster import Cluster, mentioning
from windlass.chaos.load import uptime
from windlass.chaos.watch import Watch
from windlass.store import inspection
from windlass.stream.produce import connect

_SAMPLE_S = 10.0
#: The first half of a process's life counts as its warm-up, and it is watched for so long at least after that: what
#: fills up to a bound levels off, what leaks does not.
_WARM_S = 300.0
_SETTLE_S = 30.0
_TRACEBACK = "Traceback (most recent call last)"
_SHOWN = 3000


@dataclass
class Memory:
    """Resident memory of every member, over each of its lives."""

    cluster: Cluster
    #: (member, process id) -> (seconds since boot, MiB)
    lives: dict[tuple[str, int], list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict[tuple[str, int], list[tuple[float, float]]](list)
    )

    async def run(self) -> None:
        """A sample of each every ten seconds, until cancelled."""
        while True:
            for member in self.cluster.members.values():
                if member.running and (size := member.memory()) is not None:
                    self.lives[member.name, member.pid].append((uptime(), size))
            await asyncio.sleep(_SAMPLE_S)

    def slope(self, role: str) -> tuple[float, float] | None:
        """(MiB an hour, hours watched) of a role after warm-up, by least squares over all lives that were long enough,
        each around its own mean; None when there is none."""
        above = below = hours = 0.0
        for (name, _), samples in self.lives.items():
            half = (samples[0][0] + samples[-1][0]) / 2
            warm = [(at / 3600, size) for at, size in samples if at >= half]
            if not name.startswith(role) or len(warm) < 2 or warm[-1][0] - warm[0][0] < _WARM_S / 3600:
                continue
            mean_at = sum(at for at, _ in warm) / len(warm)
            mean_size = sum(size for _, size in warm) / len(warm)
            above += sum((at - mean_at) * (size - mean_size) for at, size in warm)
            below += sum((at - mean_at) ** 2 for at, _ in warm)
            hours += warm[-1][0] - warm[0][0]
        return (above / below, hours) if below else None

    def figures(self) -> dict[str, dict[str, float]]:
        """For each role the most that a process of it ever had, in MiB, and its slope where one can be told."""
        found: dict[str, dict[str, float]] = {}
        for role in ("api", "scheduler", "worker"):
            lives = [life for (name, _), life in self.lives.items() if name.startswith(role)]
            found[role] = {"most": max((size for life in lives for _, size in life), default=0.0)}
            if (slope := self.slope(role)) is not None:
                found[role] |= {"slope": slope[0], "hours": slope[1]}
        return found


async def left_behind(cluster: Cluster, watch: Watch) -> list[str]:
    """What is still there though all jobs are over; sweeps get a while to clean up."""
    deadline = uptime() + _SETTLE_S
    while True:
        found = [*_processes(cluster), *await _entries(cluster), *await _rows(watch), *await _containers(cluster)]
        if not found or uptime() > deadline:
            return found
        await asyncio.sleep(0.5)


def _processes(cluster: Cluster) -> list[str]:
    """Jobs' processes: those that know their attempt."""
    found: list[str] = []
    for pid in mentioning(cluster.folder):
        with suppress(OSError):
            if b"WINDLASS_ATTEMPT_ID=" in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(f"process {pid} of a job")
    return found


async def _entries(cluster: Cluster) -> list[str]:
    """Entries that were read and never acknowledged."""
    client: Any = connect(cluster.redis_url)
    found: list[str] = []
    try:
        async for key in client.scan_iter(f"{cluster.name}:*"):
            with suppress(ResponseError):
                for group in await client.xinfo_groups(key):
                    if group["pending"]:
                        found.append(f"{group['pending']} pending entries in {key.decode()}")
    except (RedisError, OSError) as error:
        found.append(f"Redis does not answer: {error}")
    finally:
        await client.aclose()
    return found


async def _rows(watch: Watch) -> list[str]:
    outbox, inbox = await watch.ask(inspection.left_over)
    return [f"{count} rows in the {name}" for name, count in (("outbox", outbox), ("inbox", inbox)) if count]


async def _containers(cluster: Cluster) -> list[str]:
    """Containers of this cluster."""
    if cluster.driver != "docker":
        return []
    return [f"container {name}" for name in await engine.containers(cluster.name)]


def tracebacks(cluster: Cluster) -> list[str]:
    """Errors nobody foresaw, as the members' logs tell them: the last line of each."""
    found: list[str] = []
    for member in cluster.members.values():
        text = member.log.read_text(errors="replace")
        if count := text.count(_TRACEBACK):
            where = text.index(_TRACEBACK)
            found.append(f"{member.name}: {count} tracebacks, the first: {text[where : where + _SHOWN]}")
    return found
