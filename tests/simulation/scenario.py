"""A run: a seed becomes a world, the world lives through its faults, becomes quiet, and is judged."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog

from tests.simulation import faults, patches, programs, users
from tests.simulation.oracle import Oracle
from tests.simulation.world import World

#: Faults begin within these moments, in seconds.
FAULTS_S = (2.0, 14.0)
JOBS_S = 12.0
#: A world must be quiet so long after its last fault has ended.
QUIET_S = 150.0
LOOK_S = 1.0
#: Errors that programs rightly log.
EXPECTED = {"journal_not_written", "entry_parked", "letters_parked"}


@dataclass
class Verdict:
    """What became of a seed."""

    seed: int
    broken: list[str]
    digest: int
    seconds: float
    steps: int
    jobs: int
    attempts: int
    seen: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)


def run(seed: int, *, tracing: bool = False) -> Verdict:
    """Live through one seed. Call it inside `patches.simulated()`."""
    world = World(seed, tracing)
    _hear(world)
    try:
        with patches.living_in(world):
            oracle, calm = _begin(world)
        world.run(calm)
        _calm_down(world, oracle, calm + QUIET_S)
        broken = oracle.judge()
    except Exception as error:
        broken = [f"at {world.loop.now:.3f} s the simulation failed: {error!r}"]
    finally:
        world.close()
    ledger = world.database.ledger
    return Verdict(
        seed,
        broken,
        world.digest,
        world.loop.now,
        world.loop.steps,
        len(ledger.jobs),
        len(ledger.attempts),
        world.seen,
        world.trace,
    )


def _calm_down(world: World, oracle: Oracle, until: float) -> None:
    """Run on until nothing stirs any more, and that has stayed so for two looks."""
    calm_looks = 0 if oracle.quiet() else 1
    while calm_looks <= 2 and world.loop.now < until and not world.complaints:
        world.run(world.loop.now + LOOK_S)
        calm_looks = 0 if oracle.quiet() else calm_looks + 1


def _begin(world: World) -> tuple[Oracle, float]:
    """Set everything up; the oracle, and the moment from which nothing goes wrong any more."""
    draw = Random(f"scenario {world.seed}")
    world.wishes = users.wishes(draw, JOBS_S)
    oracle = Oracle(world)
    for role, most, program in (
        ("scheduler", 3, programs.scheduler),
        ("worker", 3, programs.agent),
        ("api", 1, programs.api),
    ):
        for number in range(1, (draw.randint(2, most) if most > 1 else 1) + 1):
            machine = world.machine(f"{role}{number}", role, program)
            world.later(draw.random(), world.start, machine)
    world.later(0.1, world.start, world.machine("user", "user", users.users))
    world.later(0.5, world.watch)
    calm = FAULTS_S[1]
    for moment, name, seconds in faults.plan(world, draw, *FAULTS_S):
        world.later(moment, faults.begin, world, name, Random(draw.getrandbits(64)), seconds)
        calm = max(calm, moment + seconds)
    world.later(calm, _heal, world)
    return oracle, calm


def _heal(world: World) -> None:
    """Nothing goes wrong from now on; who was armed to crash is not."""
    world.note("calm")
    for machine in world.machines.values():
        if machine.process is not None:
            machine.process.armed.clear()


def _hear(world: World) -> None:
    """Programs log into the trace; an error they log is one of ours."""

    def heard(_: Any, method: str, event: dict[str, Any]) -> str:
        name = event.pop("event")
        error = event.pop("exc_info", None)
        if method in ("error", "exception", "critical") and name not in EXPECTED:
            world.broken(f"{name} {event} {_error(error)}")
        else:
            world.note("log", name, event)
        raise structlog.DropEvent

    level = logging.DEBUG if world.tracing else logging.ERROR
    structlog.configure(
        processors=[heard], wrapper_class=structlog.make_filtering_bound_logger(level), cache_logger_on_first_use=False
    )


def _error(told: Any) -> str:
    import sys
    import traceback

    error = sys.exc_info()[1] if told is True else told
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
