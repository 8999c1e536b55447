"""What being watched costs: the same jobs on clusters that are alike but for that, in turn and in one run.

`python -m bench overhead [--rounds N] [--jobs N]`

One cluster has everything off: its processes count nothing, for what counts is taken out of the Prometheus client
before Windlass is loaded. In the others every role serves its page, the leader surveys, and each page is read once a
second, ten times as often as by the configuration in deploy/prometheus; and every role makes spans, four a job, for a
collector that says yes to all. One keeps as many traces as by default, the last one each.
"""

import argparse
import asyncio
import math
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from bench.cluster import cluster
from bench.collector import Collector, collector
from bench.jobs import NOOP, SLOTS
from bench.report import Row, machine, table
from bench.wire import Connection, submit_all, wait_all

#: Read by Python at its start, in the processes of the cluster that is not watched.
TAKEN_OUT = """
from prometheus_client import metrics

def nothing(self, *values, **named):
    return None

for kind in (metrics.Counter, metrics.Gauge, metrics.Summary, metrics.Histogram):
    for name in ("inc", "dec", "set", "observe", "set_function"):
        if hasattr(kind, name):
            setattr(kind, name, nothing)
    kind.labels = lambda self, *values, **named: self
"""
FIRST_PAGE = 19_460
#: Spans wait so many milliseconds for others before they go, and so many seconds after a round they are gone: what they
#: cost is of their own round.
SPANS_WAIT_MS, SETTLE_S = 1000, 1.5
#: Seconds for which a cluster is looked at while it has nothing to do.
IDLE_S = 6.0
#: place, attempt, prepare, run
SPANS_A_JOB = 4
WARMING = 500

T = TypeVar("T")


@dataclass
class Side:
    """One way to be watched: variables of its roles, and where their pages are."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    pages: Sequence[int] = ()
    rates: list[float] = field(default_factory=list[float])
    #: milliseconds of processor time a second with nothing to do, and a job beyond that, by round
    idle_ms: float = 0.0
    costs: list[float] = field(default_factory=list[float])


def sides(folder: Path, some: str, every: str) -> list[Side]:
    """The unwatched one first; where the spans of the others go."""
    (folder / "sitecustomize.py").write_text(TAKEN_OUT)
    first, second = FIRST_PAGE, FIRST_PAGE + 2

    def watched(page: int, collector: str) -> dict[str, str]:
        return {
            "WINDLASS_METRICS_PORT": str(page),
            "WINDLASS_TRACING_EXPORTER": "otlp",
            "WINDLASS_TRACING_ENDPOINT": collector,
            "OTEL_BSP_SCHEDULE_DELAY": str(SPANS_WAIT_MS),
        }

    each = watched(second, every) | {"WINDLASS_TRACING_MAX_PER_S": "0"}
    return [
        Side("off", {"PYTHONPATH": str(folder)}),
        Side("metrics and tracing", watched(first, some), (first, first + 1)),
        Side("metrics and every trace", each, (second, second + 1)),
    ]


@contextmanager
def variables(given: Mapping[str, str]) -> Iterator[None]:
    """This process's environment, for the children begun inside."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def scrape(urls: Sequence[str]) -> None:
    """Read every page each second, until cancelled."""

    def read(url: str) -> None:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()

    while True:
        for url in urls:
            await asyncio.to_thread(read, url)
        await asyncio.sleep(1.0)


def processor_s(supervisor: psutil.Process) -> float:
    """What the cluster's processes have used so far, with what those used that they have waited for."""
    total = 0.0
    for process in [supervisor, *supervisor.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


async def through(port: int, count: int, slots: int) -> None:
    """So many jobs, from submit to their end."""
    connection = Connection(port)
    await wait_all(connection, await submit_all(connection, NOOP, count), slots)
    await connection.close()


@dataclass
class Used:
    """Processor time of a cluster's processes, and how long it was looked at."""

    ms: float = 0.0
    seconds: float = 0.0


@asynccontextmanager
async def watching(side: Side, port: int, supervisor: psutil.Process) -> AsyncIterator[Used]:
    """What the cluster uses while inside, its pages being read."""
    urls = [f"http://127.0.0.1:{page}/metrics" for page in (*side.pages, *([port] if side.pages else ()))]
    reading = asyncio.create_task(scrape(urls))
    began, before, used = time.perf_counter(), processor_s(supervisor), Used()
    yield used
    used.ms, used.seconds = (processor_s(supervisor) - before) * 1000, time.perf_counter() - began
    if reading.done():
        reading.result()
    reading.cancel()


def turned(things: list[T], number: int) -> list[T]:
    """Another order each round: each is first, and each comes before and after each other, as often as the rest."""
    start = number // 2 % len(things)
    order = things[start:] + things[:start]
    return order if number % 2 else order[::-1]


async def measure(
    found: Sequence[Side], clusters: Sequence[tuple[int, psutil.Process]], count: int, rounds: int
) -> None:
    """Rounds of no-op jobs, the order of the sides turned each time."""
    slots = SLOTS * (psutil.cpu_count() or 2)
    for side, (port, supervisor) in zip(found, clusters, strict=True):
        await through(port, WARMING, slots)
        await asyncio.sleep(SETTLE_S)
        async with watching(side, port, supervisor) as used:
            await asyncio.sleep(IDLE_S)
        side.idle_ms = used.ms / used.seconds
    for number in range(rounds):
        for side, (port, supervisor) in turned(list(zip(found, clusters, strict=True)), number):
            async with watching(side, port, supervisor) as used:
                began = time.perf_counter()
                await through(port, count, slots)
                side.rates.append(count / (time.perf_counter() - began))
                await asyncio.sleep(SETTLE_S)
            side.costs.append((used.ms - side.idle_ms * used.seconds) / count)
        print("  " + ", ".join(f"{side.name} {side.rates[-1]:.0f}/s" for side in found), file=sys.stderr, flush=True)


def rows(found: Sequence[Side]) -> Iterator[Row]:
    """What each way costs: of the rate, over all rounds; and of the processor, which other work on the machine disturbs
    less."""
    off = found[0]
    for side, limit in zip(found[1:], ("<= 3 %", ""), strict=True):
        without, watched = statistics.harmonic_mean(off.rates), statistics.harmonic_mean(side.rates)
        losses = [1 - on / rate for on, rate in zip(side.rates, off.rates, strict=True)]
        error = statistics.stdev(losses) / math.sqrt(len(losses))
        value = f"{1 - watched / without:.1%} ± {error:.1%} ({watched:.0f}/s against {without:.0f}/s)"
        yield Row(f"no-op jobs, of the rate with all off: lost with {side.name} on", value, limit)
        before, after = statistics.median(off.costs), statistics.median(side.costs)
        value = f"{after / before - 1:.1%} ({after:.2f} ms against {before:.2f} ms)"
        yield Row(f"the same, processor time of all its processes a job: more with {side.name} on", value)
        value = f"{side.idle_ms - off.idle_ms:.1f} ms ({side.idle_ms:.1f} against {off.idle_ms:.1f})"
        yield Row(f"processor time a second with nothing to do: more with {side.name} on", value)


def kept(side: Side, sink: Collector, jobs: int, least: str) -> Row:
    """What came of the spans that could be made: a share that was dropped on the way would have cost less."""
    share = sink.spans() / (jobs * SPANS_A_JOB)
    return Row(f"spans that reached the collector, of those of all jobs: {side.name}", f"{share:.1%}", least)


def main(args: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=72)
    parser.add_argument("--jobs", type=int, default=1000, help="a round; fewer where other work comes and goes")
    asked = parser.parse_args(args)
    count, rounds = asked.jobs, asked.rounds
    print(machine())
    with tempfile.TemporaryDirectory() as folder, collector() as some, collector() as every:
        found = sides(Path(folder), some.url, every.url)
        with ExitStack() as stack:
            clusters: list[tuple[int, psutil.Process]] = []
            for side in found:
                with variables(side.variables):
                    clusters.append(stack.enter_context(cluster()))
            asyncio.run(measure(found, clusters, count, rounds))
        jobs = WARMING + count * rounds
        print(table([*rows(found), kept(found[1], some, jobs, ""), kept(found[2], every, jobs, ">= 99 %")]))
