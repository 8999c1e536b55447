"""The steps of the suite, one after the other, so that tests don't starve each other of the machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Step:
    """Tests that may run beside each other. `mark` selects them, `at_once` of them run at a time.

    `hangs_s` is when pytest gives a test up, in seconds: far beyond what it takes on a slow and busy machine.
    """

    mark: str
    title: str
    at_once: int
    share: str
    hangs_s: float


#: `share` is what pytest-xdist hands out at a time: files whose tests share servers, or single tests.
PART, CLUSTER, ALONE = STEPS = (
    Step("part", "what needs no cluster", CORES + 1, "loadfile", 120),
    Step("cluster", "real processes and containers", 2, "loadfile", 300),
    Step("alone", "simulation and chaos", CORES, "worksteal", 300),
)
#: The folders below tests/ whose step is not the first. A mark on a test or in a file goes before.
FOLDERS = {
    "access": CLUSTER,
    "compose": CLUSTER,
    "doctor": CLUSTER,
    "driver": CLUSTER,
    "embedded": CLUSTER,
    "kubernetes": CLUSTER,
    "simulation": ALONE,
    "system": CLUSTER,
    "tracing": CLUSTER,
    "worker": CLUSTER,
}


def step_of(item: pytest.Item) -> Step:
    """Return the step of a test: the one it is marked with, or that of its folder."""
    for step in STEPS:
        if item.get_closest_marker(step.mark):
            return step
    return FOLDERS.get(item.path.relative_to(ROOT).parts[0], PART)


def steps_of(arguments: Sequence[str]) -> tuple[Step, ...]:
    """Return the steps that tests at these pytest arguments may belong to; all of them where no path is given."""
    given = [Path(one.partition("::")[0]).resolve() for one in arguments if not one.startswith("-")]
    paths = [path for path in given if path.exists() and path.is_relative_to(ROOT)]
    if not paths or ROOT in paths:
        return STEPS
    found = {FOLDERS.get(path.relative_to(ROOT).parts[0], PART) for path in paths}
    if CLUSTER in found:
        found.add(ALONE)  # a file of such a folder may be marked so
    return tuple(step for step in STEPS if step in found)
