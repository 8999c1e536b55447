"""Failover: how long after a leader's end the next one places a job. `python -m bench failover [--kills 200]`.

Three schedulers, an API and a worker over servers of their own, jobs trickling in all the time. The leader is killed
(kill -9), frozen (SIGSTOP) or asked to end (SIGTERM); the time runs from the signal until an attempt of a later term
can be read in the ledger, both by the clock of this one machine. Then the old leader comes back, and so on.
"""

import argparse
import asyncio
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import reserved_port

from bench.report import Row, machine, table
from bench.wire import Connection
from windlass.embedded.folder import DataFolder
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.sources import variable
from windlass.store import schedulers
from windlass.store.db import Conn, connect
from windlass.store.migrate import migrate

#: Deleted soon after their end, so that the ledger stays small however long this goes on.
JOB = {"command": ["true"], "resources": {"cpu": 0.01, "memory": "1Mi"}, "ttl_after_finished": 1}
EVERY_S, LOOK_S, WITHIN_S = 0.025, 0.004, 30.0
PLACED = "SELECT extract(epoch FROM clock_timestamp())::float8 FROM attempts WHERE fence > %s LIMIT 1"
UNDER = "SELECT 1 FROM attempts WHERE fence = %s LIMIT 1"


@dataclass(frozen=True)
class Fault:
    """A way for a leader to end, with the figures it is held to, in milliseconds."""

    what: str
    number: signal.Signals
    p50: float | None
    p99: float


FAULTS = (
    Fault("killed (kill -9)", signal.SIGKILL, 300, 1000),
    Fault("frozen (SIGSTOP)", signal.SIGSTOP, None, 5000),
    Fault("asked to end (SIGTERM)", signal.SIGTERM, None, 500),
)


@dataclass
class Bed:
    """The cluster under test."""

    folder: Path
    conn: Conn
    settings: Mapping[str, str]
    port: int
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict[int, subprocess.Popen[bytes]])

    def start(self, role: str) -> None:
        """One more process of this role."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        env |= {variable(key): value for key, value in self.settings.items()}
        with (self.folder / f"{role}.log").open("ab") as log:
            argv = [sys.executable, "-m", "windlass", role]
            process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
        self.processes[process.pid] = process

    async def steady(self) -> tuple[int, int]:
        """(process id, term) of the leader, once it places jobs and two others stand by."""

        async def look() -> tuple[int, int] | None:
            seen = await schedulers.overview(self.conn)
            standbys = [one for one in seen.standbys if one.pid in self.processes]
            if seen.leader is None or seen.leader.term is None or len(standbys) < 2:
                return None
            placed = await (await self.conn.execute(UNDER, (seen.leader.term,))).fetchone()
            return (seen.leader.pid, seen.leader.term) if placed else None

        return await _until(look, 0.05)

    async def taken_over(self, term: int) -> float:
        """The moment, in seconds since the epoch, an attempt placed under a later term can be read."""

        async def look() -> tuple[float] | None:
            return await (await self.conn.execute(PLACED, (term,))).fetchone()

        return (await _until(look, LOOK_S))[0]

    async def once(self, fault: Fault) -> float:
        """Milliseconds from the signal to the next placement; then all is as before."""
        pid, term = await self.steady()
        await asyncio.sleep(random.random())  # not always at the same moment of the leader's and standbys' second
        began = time.time()
        os.kill(pid, fault.number)
        took = (await self.taken_over(term) - began) * 1000
        if fault.number is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        else:
            await asyncio.to_thread(self.processes.pop(pid).wait)
            self.start("scheduler")
        return took

    def close(self) -> None:
        """End every process."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            process.wait(15)


async def _until(look: Callable[[], Any], every_s: float) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (found := await look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: nothing was placed for {WITHIN_S:g} s")
        await asyncio.sleep(every_s)
    return found


@asynccontextmanager
async def _bed() -> AsyncIterator[Bed]:
    path = Path(tempfile.mkdtemp(prefix="windlass-bench-"))
    os.chmod(path, 0o711)  # the servers run as another user
    port = reserved_port()
    with DataFolder(path / "data") as folder:
        postgres, valkey = Postgres(folder), Valkey(folder)
        database_url, redis_url = await postgres.start(), await valkey.start()
        settings = {"database.url": database_url, "redis.url": redis_url, "api.port": str(port), "log.format": "json"}
        settings["api.allow_anonymous"] = "true"
        settings |= {"api.url": f"http://127.0.0.1:{port}", "worker.data": str(path / "worker"), "worker.cpu": "64"}
        settings |= {"worker.drivers": "process", "worker.allow_process": "true", "worker.name": "bench"}
        await migrate(database_url)
        bed = Bed(path, await connect(database_url, "bench"), settings, port)
        try:
            for role in ("api", "worker", *["scheduler"] * 3):
                bed.start(role)
            yield bed
        finally:
            bed.close()
            await bed.conn.close()
            await asyncio.gather(postgres.stop(), valkey.stop())
    shutil.rmtree(path, ignore_errors=True)


async def _trickle(port: int) -> None:
    """Submit a job every EVERY_S, without end."""
    connection = Connection(port)
    while True:
        try:
            await connection.call("POST", "/v1/jobs", JOB)
        except OSError:  # the API is not up yet
            connection = Connection(port)
        await asyncio.sleep(EVERY_S)


async def measure(counts: Mapping[str, int]) -> dict[str, list[float]]:
    """Milliseconds of each takeover, by what happened to the leader."""
    times: dict[str, list[float]] = {}
    async with _bed() as bed:
        trickle = asyncio.create_task(_trickle(bed.port))
        try:
            for fault in FAULTS:
                times[fault.what] = []
                for _ in range(counts[fault.what]):
                    times[fault.what].append(await bed.once(fault))
                print(f"  leader {fault.what}: {len(times[fault.what])} times", file=sys.stderr, flush=True)
        finally:
            trickle.cancel()
    return times


def _cut(times: list[float], share: float) -> float:
    """The smallest of the times that this share of them does not exceed."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


def _row(fault: Fault, times: list[float]) -> Row:
    shown = f"{statistics.median(times):.0f} / {_cut(times, 0.99):.0f} / {max(times):.0f} ms of {len(times)}"
    must = f"<= {fault.p50:.0f} / {fault.p99:.0f} ms" if fault.p50 else f"p99 <= {fault.p99:.0f} ms"
    return Row(f"leader {fault.what} -> next placement, p50 / p99 / max", shown, must)


def main(args: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many times the leader is killed (200)")
    parser.add_argument("--others", type=int, help="how many times it is frozen, and asked to end (a quarter of that)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    asked = parser.parse_args(args)
    others = asked.others if asked.others is not None else max(1, asked.kills // 4)
    counts = {fault.what: asked.kills if fault.number is signal.SIGKILL else others for fault in FAULTS}
    times = asyncio.run(measure(counts))
    if asked.output == "json":
        found = {what: {"p50": _cut(t, 0.5), "p99": _cut(t, 0.99), "max": max(t), "ms": t} for what, t in times.items()}
        print(json.dumps({"machine": machine(), "failover": found}, indent=1))
    else:
        print(machine())
        print(table([_row(fault, times[fault.what]) for fault in FAULTS]))
