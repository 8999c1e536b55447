"""One run of chaos from the first process to the report."""

import asyncio
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from windlass.chaos import load as loads
from windlass.chaos.cluster import NODE_CPU, Cluster
from windlass.chaos.conductor import Conductor
from windlass.chaos.faults import FAULTS
from windlass.chaos.leaks import Memory, left_behind, tracebacks
from windlass.chaos.load import JOB_CPU, KINDS, Load, mean_s, spec_of
from windlass.chaos.oracle import judge
from windlass.chaos.report import Report, make
from windlass.chaos.site import Site
from windlass.chaos.watch import Watch
from windlass.errors import WindlassError
from windlass.store import inspection

_FIRST = frozenset(("api-1", "scheduler-1", "worker-1"))
_READY_S = 60.0
#: After the last fault is healed, the cluster gets this long to bring every accepted job to its end.
_END_S = 180.0  # without one job fewer that is not over


@dataclass(frozen=True, slots=True)
class Options:
    """What to do. `rate` is jobs a second; None: half of the room is in use on average."""

    duration_s: float = 60.0
    seed: int = 0
    every_s: float = 5.0
    count: int | None = None
    driver: str = "process"
    image: str = "busybox"
    rate: float | None = 6.0
    faults: Sequence[str] = field(default_factory=lambda: tuple(FAULTS))
    spare: bool = False
    keep: bool = False


class Chaos:
    """One run. `kill` ends everything it started at once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._cluster: Cluster | None = None
        self.report: Report | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until the time is over or stop is set; the report is there afterwards."""
        folder = Path(tempfile.gettempdir()) / f"windlass-chaos-{secrets.token_hex(4)}"
        folder.mkdir()
        folder.chmod(0o711)
        try:
            cluster = self._cluster = Cluster(folder, driver=self._options.driver)
            async with cluster:
                self.report = await self._conduct(cluster, stop)
        finally:
            if self._options.keep:
                say(f"kept: {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def kill(self) -> None:
        """End every process at once."""
        if self._cluster is not None:
            self._cluster.kill()

    async def _conduct(self, cluster: Cluster, stop: asyncio.Event) -> Report:
        options, dice = self._options, random.Random(self._options.seed)
        rate = options.rate or len(cluster.of("worker")) * NODE_CPU / JOB_CPU / 2 / mean_s()
        spec = spec_of(options.driver, options.image, cluster.evidence)
        async with AsyncExitStack() as stack:
            load = Load(cluster.urls(), cluster.evidence, spec, random.Random(dice.random()))
            watch, memory = Watch(cluster.database_url), Memory(cluster)
            stack.push_async_callback(load.close)
            stack.push_async_callback(watch.close)
            site = Site(cluster, load, watch, spared=_FIRST if options.spare else frozenset[str]())
            background = [asyncio.create_task(work) for work in (watch.run(), memory.run())]
            stack.callback(lambda: [task.cancel() for task in background])
            await _ready(cluster, watch, load, stop)
            background.append(asyncio.create_task(site.guard()))
            conductor = Conductor(
                site, [FAULTS[name] for name in options.faults], random.Random(dice.random()), options.every_s, say
            )
            say(f"seed {options.seed}: {rate:.1f} jobs a second, a fault every {options.every_s:g} s")
            began = loads.uptime()
            await _until_over(conductor, load, rate, options, stop)
            ended = loads.uptime()
            say("no more faults; waiting until every accepted job is over")
            await _finish(conductor, load, watch)
            say("all jobs are over; looking at what is left behind")
            left = await left_behind(cluster, watch)
            say("comparing the evidence with the record")
            runs, books = loads.read(cluster.evidence), await watch.ask(inspection.books)
            verdict = judge([wish.accepted() for wish in load.wishes if wish.job_id], runs, books)
            for promise, found in (("leak", left), ("fall", [*site.fallen, *tracebacks(cluster)])):
                for what in found:
                    verdict.breaks(promise, what)
            span = (began, ended)
            return make(
                options.seed, options.driver, span, verdict, conductor.hits, load, runs, books, memory.figures()
            )


async def _ready(cluster: Cluster, watch: Watch, load: Load, stop: asyncio.Event) -> None:
    """Every node takes work, and one job of each kind has run."""
    wanted = len(cluster.of("worker"))

    async def all_ready(conn: inspection.Conn) -> bool:
        return [node.state for node in await inspection.nodes(conn)].count("ready") == wanted

    if not await watch.until(all_ready, _READY_S):
        raise WindlassError(f"the cluster is not ready after {_READY_S:g} s:\n{cluster.words()}")
    cluster.check()
    first = [load.want(kind) for kind in KINDS]
    deadline = time.monotonic() + _READY_S
    while not stop.is_set() and not all([await loads.began(load.evidence / one.name, 0.1) for one in first]):
        if time.monotonic() > deadline:
            raise WindlassError(f"no job runs:\n{cluster.words()}")


async def _until_over(conductor: Conductor, load: Load, rate: float, options: Options, stop: asyncio.Event) -> None:
    """Load and faults, until the time is over or stop is set."""
    submitting = asyncio.create_task(load.run(rate))
    breaking = asyncio.create_task(conductor.run(time.monotonic() + options.duration_s, options.count))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((breaking, stopping, submitting), return_when=asyncio.FIRST_COMPLETED)
        for task in (breaking, submitting):
            if task.done():
                task.result()
    finally:
        for task in (submitting, breaking, stopping):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _finish(conductor: Conductor, load: Load, watch: Watch) -> None:
    """Every fault healed, every wish answered, every accepted job over, or none of them over for a long while."""
    await conductor.settle()
    await load.settle(30)
    least = float("inf")

    async def fewer(conn: inspection.Conn) -> bool:
        nonlocal least
        before, least = least, min(least, await inspection.unfinished(conn))
        return least == 0 or least < before

    while await watch.until(fewer, _END_S) and least > 0:
        pass


def say(text: str) -> None:
    """A line for whoever watches."""
    with suppress(OSError):
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)
