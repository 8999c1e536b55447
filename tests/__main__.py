"""python -m tests: run the suite in its three steps.

python -m tests tests/core -x                       any arguments of pytest
python -m tests --second-look FILE                  run what failed once more, alone; note in FILE what passed then
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.record import COLLECTING
from tests.steps import Step, steps_of

#: So many failures are no accident: none of them gets a second look.
_SECOND_LOOKS = 5
_SLOWEST = 10
_NONE_COLLECTED = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__, allow_abbrev=False)
    parser.add_argument("--second-look", type=Path, metavar="FILE")
    parser.add_argument("--randomly-seed", default=str(random.getrandbits(32)), metavar="N")
    options, arguments = parser.parse_known_args()
    steps = steps_of(arguments)
    arguments.append(f"--randomly-seed={options.randomly_seed}")
    took = Counter[str]()
    codes = list[int]()
    with tempfile.TemporaryDirectory(prefix="windlass-steps-") as folder:
        for number, step in enumerate(steps, 1):
            title = f"step {number} of {len(steps)}: {step.title}"
            record = Path(folder) / step.mark
            codes.append(_run(title, step, arguments, record))
            failures = _read(record, took)
            whole = not any(how.startswith(COLLECTING) for how in failures.values())
            if codes[-1] == 1 and options.second_look and whole and 0 < len(failures) <= _SECOND_LOOKS:
                codes[-1] = _look_again(failures, options.second_look, arguments[-1])
    if len(steps) > 1 or sum(took.values()) > 60:
        print(f"\nslowest {_SLOWEST}:")
        for test, seconds in took.most_common(_SLOWEST):
            print(f"  {seconds:6.1f} s  {test}")
    if all(code == _NONE_COLLECTED for code in codes):
        return _NONE_COLLECTED
    return max((code for code in codes if code != _NONE_COLLECTED), default=0)


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def _run(title: str, step: Step, arguments: Sequence[str], record: Path) -> int:
    """Run the tests of one step and return pytest's exit code."""
    print(f"\n== {title}, {step.at_once} at a time", flush=True)
    began = time.monotonic()
    shares = ("-n", str(step.at_once), "--dist", step.share, "--maxprocesses", str(step.at_once))
    code = _pytest("-m", step.mark, *shares, "-p", "tests.record", "--record", str(record), *arguments)
    print(f"== {title}: {time.monotonic() - began:.0f} s, exit code {code}", flush=True)
    return code


def _read(record: Path, took: Counter[str]) -> dict[str, str]:
    """Add up the seconds of each test, and return how each that failed did, by its id."""
    failures: dict[str, str] = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        phase = json.loads(line)
        took[phase["test"]] += phase["seconds"]
        if phase["failed"]:
            failures.setdefault(phase["test"], phase["failed"])
    return failures


def _look_again(failures: dict[str, str], unstable: Path, seed: str) -> int:
    """Run each alone, with the same random seed. Return 0 when all pass now.

    Each that passes is unstable: a fault that is found and not understood.
    """
    code = 0
    for test, how in failures.items():
        print(f"\n== a second look at {test}, which failed in {how}", flush=True)
        if again := _pytest("-n", "0", seed, test):
            code = again
        else:
            with unstable.open("a") as notes:
                notes.write(f"UNSTABLE: {test}, {how}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
