"""An engine of a test's own, which may be killed: the node's is left alone."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import docker_missing


class OwnEngine:
    """A dockerd with its own folders and socket, without networks, and in a namespace of its own:
    it would take the other engine's bridge down."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"unix://{folder}/d.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it, with these further options."""
        for left_behind in ("pid", "exec/containerd/containerd.pid"):
            (self.folder / left_behind).unlink(missing_ok=True)
        options = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--shutdown-timeout=3"]
        places = {"--data-root": "data", "--exec-root": "exec", "--pidfile": "pid"}
        folders = [part for option, name in places.items() for part in (option, str(self.folder / name))]
        with (self.folder / "log").open("ab") as log:
            command = ["unshare", "--net", "dockerd", "-H", self.url, *folders, *options, *more]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def answers(self) -> bool:
        return subprocess.run(["docker", "-H", self.url, "version"], capture_output=True).returncode == 0

    def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(30)

    def cut_power(self) -> None:
        """It is gone at once, and all it runs with it."""
        assert self._process is not None
        self._process.kill()
        self._kill_all()
        self._process.wait(30)

    def _kill_all(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in (process / "cmdline").read_bytes():
                    _kill_tree(int(process.name))

    def clear(self) -> None:
        """Leave no process, mount or file, whatever state it is in."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.end(signal.SIGTERM)
        self._kill_all()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(str(self.folder))]):
            subprocess.run(["umount", "-l", mount], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill_tree(pid: int) -> None:
    """Kill a process and all below it: a container outlives its shim. Nobody is left to hear how a child ended."""
    below = [child for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()]
    os.kill(pid, signal.SIGKILL)
    for child in below:
        with contextlib.suppress(OSError):
            _kill_tree(int(child))


@contextlib.contextmanager
def own_engine(*options: str) -> Iterator[OwnEngine]:
    """A second engine, ready; cleared away afterwards."""
    if why := docker_missing():
        pytest.skip(why)
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("starting a second engine needs root and dockerd")
    own = OwnEngine(Path(tempfile.mkdtemp(prefix="wl-", dir="/tmp")))  # a socket's path must be short
    own.start(*options)
    deadline = time.monotonic() + 20
    while not own.answers():
        if time.monotonic() > deadline:
            log = (own.folder / "log").read_text()[-500:]
            own.clear()
            pytest.skip(f"a second engine does not start here: {log}")
    try:
        yield own
    finally:
        own.clear()
