"""python -m tests.hunt TEST TIMES: run a test beside busy loops, one for each core, until it fails."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.steps import CORES


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Keep every core busy meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(CORES)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main(test: str, times: int) -> int:
    """Return pytest's exit code of the run that failed, 0 when none did."""
    with load():
        for number in range(1, times + 1):
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-n", "0", "-q", *test.split()], capture_output=True, text=True
            )
            print(f"{number} of {times}: {done.stdout.strip().splitlines()[-1]}", flush=True)
            if done.returncode:
                print(done.stdout, done.stderr, sep="\n")
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
