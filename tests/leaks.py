"""What a test leaves behind: processes that it started and that live on after its last fixture is gone."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import HANG_S

#: pytest puts the running test into the environment, and every child inherits it.
_VARIABLE = "PYTEST_CURRENT_TEST"


def processes(test: str) -> dict[int, str]:
    """Return the command lines of living processes that were started while this test ran, by process id."""
    mark = f"{_VARIABLE}={test} (".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()  # nothing for one that has ended and was not waited for
            if command and entry.name != str(os.getpid()) and mark in (entry / "environ").read_bytes():
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


@contextlib.contextmanager
def shared_by_tests() -> Iterator[None]:
    """Start the servers of a wider fixture within: they belong to no test, also when one restarts them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_VARIABLE, "shared by tests")
        yield


def _of_others(pid: int, others: set[int]) -> bool:
    """Tell whether a process descends from one of the others, and not from this one directly."""
    while pid not in (os.getpid(), 1, 0):
        if pid in others:
            return True
        try:
            # proc(5): the name in brackets may have spaces in it; the parent is the second field after it
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


@contextlib.contextmanager
def nothing_left(test: str) -> Iterator[None]:
    """Fail with the command lines of what the test started within and left running; end it, for those that follow.

    Servers that tests share are there before it, and what they start is theirs.
    """
    before = {int(entry.name) for entry in Path("/proc").glob("[0-9]*")}
    yield
    deadline = time.monotonic() + HANG_S
    while True:
        left = {pid: words for pid, words in processes(test).items() if not _of_others(pid, before)}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"{test} left processes running: {left}"
