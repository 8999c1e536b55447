"""Seeds: no simulated cluster breaks a promise, and a seed means the same every time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
#: Clusters per test, and tests: fresh clusters in every run of the suite. `make sim` lives through many more.
SHARE = 20
SHARES = 15


def simulated(*arguments: str, **environment: str) -> Any:
    """Return what the command reports as JSON."""
    done = subprocess.run(
        ["nice", "-n", "19", sys.executable, "-m", "tests.simulation", "--jobs", "1", *arguments, "-o", "json"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("share", range(SHARES))
def test_no_seed_breaks_a_promise(share: int, pytestconfig: pytest.Config) -> None:
    """The first seed is that of the tests' random order, so `--randomly-seed` repeats the same clusters."""
    first = pytestconfig.getoption("randomly_seed") + share * SHARE
    report = simulated("--first", str(first), "--seeds", str(SHARE))
    assert report["failed"] == {}, "replay one with: make sim SEED=n"
    assert report["seeds"] == SHARE


@pytest.mark.parametrize("seed", [3, 12])
def test_a_seed_means_the_same_every_time(seed: int) -> None:
    first = simulated("--seed", str(seed), PYTHONHASHSEED="1")
    second = simulated("--seed", str(seed), PYTHONHASHSEED="2")
    assert first == second
