"""A worker that misses the end of a process ends its attempt all the same, with the exit the watchdog has."""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2

from tests.ports import reserved_port
from tests.support import wait_until
from tests.system.cluster import Cluster
from windlass.watchdog.protocol import SOCKET

_PIDFD_GETFD = 438


@contextmanager
def watchdog_line(pid: int) -> Iterator[socket.socket]:
    """The worker's own connection to its watchdog: what is read here the worker never sees."""
    libc, process = ctypes.CDLL(None, use_errno=True), os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):
            if (fd := libc.syscall(_PIDFD_GETFD, process, number, 0)) < 0:
                continue
            try:
                line = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            with line:
                if line.family == socket.AF_UNIX and str(line.getpeername()).endswith(SOCKET):
                    yield line
                    return
    finally:
        os.close(process)
    raise AssertionError("the worker is not connected to its watchdog")


async def test_an_end_the_worker_missed(cluster: Cluster) -> None:
    cluster.api()
    cluster.scheduler()
    port = reserved_port()
    worker = cluster.worker()
    worker.kill()
    worker.start(WINDLASS_METRICS_PORT=str(port))
    await cluster.ready()
    go = cluster.folder / "go"
    script = f"until test -e '{go}'; do sleep 0.02; done; exit 7"
    job_id = cluster.submit(cluster.spec("missed", script, max_retries=0))
    await cluster.state(job_id, "running")
    worker.freeze()
    taken = bytearray()

    def ended() -> bool:
        with suppress(BlockingIOError):
            taken.extend(line.recv(65536, socket.MSG_DONTWAIT))
        return b'"end"' in taken

    with watchdog_line(worker.pid) as line:
        go.touch()
        await wait_until(ended, "its end is sent")
    worker.thaw()
    (job,) = await cluster.over(job_id)
    (attempt,) = job["status"]["attempts"]
    assert (job["state"], attempt["exit_code"], attempt["cause"]) == ("failed", 7, "exit_code")
    page = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'windlass_repairs_total{kind="process_gone"} 1.0' in page
