"""`windlass up` as a person meets it: it starts, brings back what dies, and leaves nothing behind."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import busybox_image, docker_missing
from tests.ports import reserved_port
from tests.support import HANG_S, wait_until
from windlass.cli.up import get
from windlass.driver.docker_profile import JOB as JOB_LABEL


class Up:
    """One `windlass up` on a folder, its output in a file."""

    def __init__(self, data: Path, *args: str) -> None:
        self.data = data
        self.output = data.parent / f"{data.name}.out"
        self.port = reserved_port()
        self._file = self.output.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "windlass", "up", "--data", str(data), "--port", str(self.port), *args],
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self) -> str:
        return self.output.read_text()

    async def ready(self) -> None:
        def answer() -> bool:
            assert self.process.poll() is None, self.said()
            return "is ready" in self.said()

        await wait_until(answer, f"up is ready; it said so far: {self.said()}")

    async def ended(self) -> int:
        await wait_until(lambda: self.process.poll() is not None, f"up has ended; it said: {self.said()}")
        return self.process.returncode

    def pids(self, program: str) -> list[int]:
        """Processes of this `up` with that word in their command line."""
        return [pid for pid, command in left_in(self.data).items() if program in command]

    def submit(self, spec: dict[str, object]) -> str:
        """The id of a new job."""
        return self._request("POST", "/v1/jobs", json.dumps(spec))["id"]

    def attempt_states(self, job: str) -> list[str]:
        """The states of the job's attempts, as the API shows them."""
        return [attempt["state"] for attempt in self._request("GET", f"/v1/jobs/{job}")["status"]["attempts"]]

    def _request(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._file.close()


def left_in(data: Path) -> dict[int, str]:
    """Command lines of living processes that work below the folder, and of watchdogs over it, by id."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                watches = "windlass/watchdog" in command and str(data) in command
                if watches or Path(os.readlink(entry / "cwd")).is_relative_to(data):
                    found[int(entry.name)] = command
            except OSError:  # gone meanwhile
                continue
    return found


def containers_of(job: str) -> list[str]:
    """Ids of this job's containers, whatever their state; none where there is no Docker."""
    if docker_missing():
        return []
    command = ["docker", "ps", "--all", "--quiet", "--filter", f"label={JOB_LABEL}={job}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def data(roomy_folder: Path) -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="up with spaces "))
    parent.chmod(0o711)
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def started(data: Path) -> Iterator[list[Up]]:
    """What a test starts goes in here, and is ended with it."""
    ups: list[Up] = []
    yield ups
    for up in ups:
        up.close()
    deadline = time.monotonic() + HANG_S
    while left_in(data) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_in(data) == {}


async def test_it_starts_says_where_things_are_and_leaves_nothing_behind(data: Path, started: list[Up]) -> None:
    started.append(up := Up(data))
    await up.ready()
    for told in (f"http://127.0.0.1:{up.port}", f"http://127.0.0.1:{up.port}/docs", str(data), str(data / "log")):
        assert told in up.said()
    assert await asyncio.to_thread(get, up.port, "/readyz")
    up.process.send_signal(signal.SIGINT)
    assert await up.ended() == 0
    assert left_in(data) == {}


SLEEP = {"command": ["sleep", "600"], "max_retries": 0}


@pytest.mark.parametrize("driver", ["process", pytest.param("docker", marks=pytest.mark.docker)])
async def test_ctrl_c_ends_the_jobs_that_run(data: Path, started: list[Up], driver: str) -> None:
    started.append(up := Up(data, "--cpu", "1", "--memory", "1Gi"))
    await up.ready()
    job = up.submit(
        SLEEP | {"driver": driver} | ({"image": busybox_image(), "network": "none"} if driver == "docker" else {})
    )
    await wait_until(lambda: "running" in up.attempt_states(job), "the job runs")
    up.process.send_signal(signal.SIGINT)
    assert await up.ended() == 0
    assert containers_of(job) == []
    assert left_in(data) == {}


async def test_whatever_dies_comes_back(data: Path, started: list[Up]) -> None:
    started.append(up := Up(data))
    await up.ready()
    for program in ("windlass scheduler", "windlass api", "windlass worker", "valkey-server", "bin/postgres"):
        before = min(up.pids(program))
        os.kill(before, signal.SIGKILL)
        await wait_until(lambda p=program, b=before: up.pids(p) and b not in up.pids(p), f"another {program}")
    await wait_until(lambda: asyncio.to_thread(get, up.port, "/readyz"), "the API is ready again")
    assert "the scheduler was ended by SIGKILL; it starts again" in up.said()
    up.process.send_signal(signal.SIGTERM)
    assert await up.ended() == 0


async def test_kill_9_leaves_nothing_running_and_the_next_start_works(data: Path, started: list[Up]) -> None:
    started.append(first := Up(data))
    await first.ready()
    os.kill(first.process.pid, signal.SIGKILL)
    started.append(second := Up(data))
    await second.ready()
    second.process.send_signal(signal.SIGINT)
    assert await second.ended() == 0


async def test_a_second_ctrl_c_kills(data: Path, started: list[Up]) -> None:
    started.append(up := Up(data))
    await up.ready()
    os.kill(min(up.pids("windlass worker")), signal.SIGSTOP)
    up.process.send_signal(signal.SIGINT)
    await wait_until(lambda: "stopping" in up.said(), "up says that it stops")

    def insist() -> bool:
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGINT)
        return up.process.poll() is not None

    await wait_until(insist, "up has ended")
    assert up.process.returncode == 130
    await wait_until(lambda: not left_in(data), "nothing is left")


async def test_a_stop_in_the_middle_of_the_start_leaves_nothing(data: Path, started: list[Up]) -> None:
    started.append(up := Up(data))
    await wait_until(lambda: (data / "postgres").exists(), "it has begun")
    up.process.send_signal(signal.SIGTERM)
    assert await up.ended() == 0
    assert left_in(data) == {}


async def test_a_port_in_use_is_named_before_anything_starts(data: Path, started: list[Up]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started.append(up := Up(data, "--port", str(port)))
        assert await up.ended() == 2
    assert f"port {port} on 127.0.0.1 can't be had (Address already in use)" in up.said()
    assert "--port" in up.said()
    assert not data.exists()


async def test_a_second_up_on_the_folder_is_refused_and_the_first_goes_on(data: Path, started: list[Up]) -> None:
    started.append(first := Up(data))
    await first.ready()
    second = subprocess.run(
        [sys.executable, "-m", "windlass", "up", "--data", str(data), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert f"(process {first.process.pid}) already runs on data folder" in second.stderr
    assert await asyncio.to_thread(get, first.port, "/readyz")
    first.process.send_signal(signal.SIGINT)
    assert await first.ended() == 0


def cluster_of(up: Up) -> dict[str, Any]:
    return up._request("GET", "/v1/cluster")  # pyright: ignore


async def test_a_small_cluster_on_one_machine(data: Path, started: list[Up]) -> None:
    """Three schedulers, three workers: kill -9 of the leader and of a worker, and all are back."""
    started.append(up := Up(data, "--schedulers", "3", "--workers", "3", "--memory", "1Gi"))
    await up.ready()
    assert "node-1, node-2, node-3, each: " in up.said()
    assert "one of 3 schedulers" in up.said()
    nodes = up._request("GET", "/v1/nodes")["nodes"]  # pyright: ignore
    assert [(node["name"], node["capacity"]["memory"]) for node in nodes] == [(f"node-{n}", 2**30) for n in (1, 2, 3)]
    cores = len(os.sched_getaffinity(0))
    assert {node["capacity"]["cpu"] for node in nodes} == {max(cores * 1000 // 3, 1000) / 1000}
    await wait_until(lambda: len(cluster_of(up)["standbys"]) == 2, "two stand by")
    first = cluster_of(up)["leader"]
    worker = min(up.pids("windlass worker"))
    os.kill(first["pid"], signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)

    def whole() -> bool:
        """All have a process, and the schedulers agree on who leads."""
        found = cluster_of(up)
        lives = {one["pid"] for one in (found["leader"], *found["standbys"]) if one}
        return found["leader"] is not None and len(lives & set(up.pids("windlass scheduler"))) == 3

    await wait_until(whole, "one leads, two stand by")
    await wait_until(lambda: len(set(up.pids("windlass worker")) - {worker}) == 3, "three workers")
    assert cluster_of(up)["leader"]["term"] == first["term"] + 1
    command = [sys.executable, "-m", "windlass", "--url", f"http://127.0.0.1:{up.port}", "status", "-o", "name"]
    await wait_until(lambda: len(cluster_of(up)["standbys"]) == 2, "the row of the dead one is too old")
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.split()[0] == cluster_of(up)["leader"]["id"]
    assert len(shown.stdout.split()) == 3
    job = up.submit({"command": ["true"], "driver": "process"})
    await wait_until(lambda: up.attempt_states(job) == ["succeeded"], "a job runs")
    up.process.send_signal(signal.SIGTERM)
    assert await up.ended() == 0
