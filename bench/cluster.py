"""A cluster to measure: `windlass up` on a temporary folder."""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def cluster(*options: str) -> Iterator[tuple[int, psutil.Process]]:
    """(port of its API, its supervisor)."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-bench-"))
    folder.chmod(0o711)
    command = [sys.executable, "-m", "windlass", "up", "--data", str(folder / "data"), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        port = None
        for line in process.stdout:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                port = int(found[1])
            if "Ctrl-C" in line:
                break
        if port is None:
            raise SystemExit("bench: `windlass up` did not start; run it by hand to see why")
        yield port, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def roles(supervisor: psutil.Process) -> dict[str, psutil.Process]:
    """The role processes, by role."""
    found: dict[str, psutil.Process] = {}
    for child in supervisor.children():
        line = child.cmdline()
        if line and line[-1] in ("api", "scheduler", "worker"):
            found[line[-1]] = child
    return found
