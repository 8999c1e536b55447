"""Seeds: no simulated cluster breaks a promise, and a seed means the same every time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
#: The clusters every run of the suite lives through; `make sim` lives through many more.
SEEDS = (range(300), range(700, 800))


def simulated(*arguments: str, **environment: str) -> Any:
    """What the command says of it as JSON."""
    done = subprocess.run(
        ["nice", "-n", "19", sys.executable, "-m", "tests.simulation", *arguments, "-o", "json"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_no_seed_breaks_a_promise(seeds: range) -> None:
    report = simulated("--first", str(seeds.start), "--seeds", str(len(seeds)))
    assert report["failed"] == {}, "replay one with: make sim SEED=n"
    assert report["seeds"] == len(seeds)


@pytest.mark.parametrize("seed", [3, 12])
def test_a_seed_means_the_same_every_time(seed: int) -> None:
    first = simulated("--seed", str(seed), PYTHONHASHSEED="1")
    second = simulated("--seed", str(seed), PYTHONHASHSEED="2")
    assert first == second
