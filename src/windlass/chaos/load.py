"""The load: jobs that write their own evidence, submitted by a client that does not take no answer for a no.

Every run makes one file of its own in its job's folder and tells there who it is, when it began, that it lives, and
how it ended. A copy that is killed leaves a file without an end. Moments are seconds since boot, the same for every
process and container of the machine.
"""

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from windlass.chaos.oracle import Accepted, Run
from windlass.client import Client
from windlass.client.errors import ApiError, InvalidRequest, Unexpected, Unreachable

#: What one job reserves on its node.
JOB_CPU = 0.25
_ANSWER_S = 5.0
_PAUSE_MOST_S = 1.0

#: $1 signs of life, $2 seconds before each, $3 exit code, $4 the attempt from which on the code is 0.
SCRIPT = """\
read id </proc/sys/kernel/random/uuid
say() { read up rest </proc/uptime; echo "$1 $up" >>"$EVIDENCE/$id"; }
left=$1 code=$3
[ "$WINDLASS_ATTEMPT" -lt "$4" ] || code=0
say "run $WINDLASS_ATTEMPT_ID $WINDLASS_ATTEMPT ${WINDLASS_NODE_ID:--}"
while [ "$left" -gt 0 ]; do sleep "$2"; say alive; echo "$left"; left=$((left - 1)); done
echo "over $code"
say "end $code"
exit "$code"
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job. `weight` is its share of the mix; signs of life come every `tick_s` seconds."""

    name: str
    weight: float
    ticks: tuple[int, int]
    tick_s: float
    code: int = 0
    #: the attempt from which on it succeeds; None: never
    good_from: int | None = 1
    exclusive: bool = False
    max_retries: int = 3

    @property
    def mean_s(self) -> float:
        """Seconds of room that one takes on average, its retries included."""
        tries = {1: 1, None: self.max_retries + 1}.get(self.good_from, self.good_from or 1)
        return sum(self.ticks) / 2 * self.tick_s * tries


KINDS: Sequence[Kind] = (
    Kind("short", 6, (1, 5), 0.2),
    Kind("long", 1, (10, 40), 0.5),
    Kind("once", 1, (1, 3), 0.2, code=3, good_from=2),
    Kind("hopeless", 0.5, (1, 2), 0.2, code=4, good_from=None, max_retries=2),
    Kind("exclusive", 1, (10, 40), 0.2, exclusive=True),
)
PROBE = Kind("probe", 0, (0, 0), 0.1)


def mean_s() -> float:
    """Seconds of room that a job of the mix takes on average."""
    return sum(kind.weight * kind.mean_s for kind in KINDS) / sum(kind.weight for kind in KINDS)


@dataclass(slots=True)
class Wish:
    """A job somebody wants run; accepted once `job_id` is there. Moments are seconds since boot."""

    name: str
    kind: Kind
    asked_at: float
    job_id: str = ""
    accepted_at: float = 0.0

    def accepted(self) -> Accepted:
        """For the oracle."""
        good = self.kind.good_from is not None
        return Accepted(self.name, self.job_id, self.kind.exclusive, good, self.kind.max_retries)


@dataclass
class Load:
    """Submits jobs to any of the APIs."""

    urls: Sequence[str]
    evidence: Path
    spec: Mapping[str, Any]
    dice: random.Random
    wishes: list[Wish] = field(default_factory=list[Wish])
    answers: dict[str, int] = field(default_factory=dict[str, int])
    _tasks: set["asyncio.Task[None]"] = field(default_factory=lambda: set["asyncio.Task[None]"]())

    def __post_init__(self) -> None:
        self._clients = [Client(url, timeout=_ANSWER_S, retries=0) for url in self.urls]
        self._numbers = count(1)

    async def run(self, rate: float) -> None:
        """Ask for `rate` jobs a second at random moments, until cancelled."""
        weights = [kind.weight for kind in KINDS]
        at = time.monotonic()
        while True:
            at += self.dice.expovariate(rate)
            await asyncio.sleep(at - time.monotonic())
            self.want(self.dice.choices(KINDS, weights)[0])

    def want(self, kind: Kind) -> Wish:
        """Submit one job of this kind in the background."""
        number = next(self._numbers)
        wish = Wish(f"{kind.name}-{number}", kind, uptime())
        self.wishes.append(wish)
        folder = self.evidence / wish.name
        folder.mkdir()
        folder.chmod(0o1777)  # whatever user the job runs as
        task = asyncio.create_task(self._submit(wish, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return wish

    async def settle(self, within_s: float) -> None:
        """Until every wish has its answer, or the time is over."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def close(self) -> None:
        """Ask for nothing more."""
        for task in self._tasks:
            task.cancel()
        for client in self._clients:
            await client.close()

    @property
    def asking(self) -> int:
        """Wishes without an answer yet."""
        return len(self._tasks)

    async def _submit(self, wish: Wish, number: int) -> None:
        """Ask until one API says yes: with one key all the time, so that an unknown answer makes no second job."""
        spec = self._spec(wish)
        pause = 0.1
        for turn in count(number):
            try:
                job = await self._clients[turn % len(self._clients)].jobs.create(spec, idempotency_key=wish.name)
            except InvalidRequest:
                raise
            except (ApiError, Unreachable, Unexpected) as error:
                status = str(error.status) if isinstance(error, ApiError) else type(error).__name__.lower()
                self.answers[status] = self.answers.get(status, 0) + 1
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, _PAUSE_MOST_S)
                continue
            wish.job_id, wish.accepted_at = job.id, uptime()
            self.answers["2xx"] = self.answers.get("2xx", 0) + 1
            return

    def _spec(self, wish: Wish) -> dict[str, Any]:
        kind = wish.kind
        ticks = self.dice.randint(*kind.ticks)
        arguments = [ticks, kind.tick_s, kind.code, kind.good_from or 1000]
        return {
            "name": wish.name,
            "command": ["sh", "-c", SCRIPT, "sh", *map(str, arguments)],
            "env": {"EVIDENCE": str(self.evidence / wish.name)},
            "resources": {"cpu": JOB_CPU, "memory": "32Mi"},
            "backoff": {"initial": 0.2, "jitter": 0},
            "max_retries": kind.max_retries,
            "exclusive": kind.exclusive,
            "priority": 10 if kind is PROBE else 0,
            "stop_grace": 2,
            **self.spec,
        }


def spec_of(driver: str, image: str, evidence: Path) -> dict[str, Any]:
    """What every job needs to run under this driver."""
    if driver == "process":
        return {"driver": "process"}
    folder = {"source": str(evidence), "target": str(evidence)}
    return {"driver": "docker", "image": image, "network": "none", "volumes": [folder]}


def read(evidence: Path) -> list[Run]:
    """Every run that left a file."""
    return [run for file in evidence.glob("*/*") if (run := _run(file)) is not None]


def _run(file: Path) -> Run | None:
    """One file's run; None for one that was killed before its first line was whole."""
    lines = [line.split() for line in file.read_text(errors="replace").split("\n")[:-1]]
    if not lines or len(lines[0]) != 5:
        return None
    _, attempt_id, number, node, start = lines[0]
    code = int(lines[-1][1]) if lines[-1][0] == "end" else None
    signs = sum(line[0] == "alive" for line in lines)
    return Run(file.parent.name, attempt_id, int(number), node, float(start), float(lines[-1][-1]), code, signs)


def uptime() -> float:
    """Seconds since boot, as evidence has it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def began(folder: Path, within_s: float) -> bool:
    """Whether a run left evidence in this job's folder, waiting for it at most so long."""
    deadline = uptime() + within_s
    while not os.listdir(folder):
        if uptime() > deadline:
            return False
        await asyncio.sleep(0.03)
    return True
