"""Containers: Windlass's Docker driver against the bare Engine API, same image, network and number at once, in turn."""

import asyncio
import statistics
import subprocess
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiodocker
import psutil

from bench.report import Row
from bench.wire import Connection, submit_all, wait_all

IMAGE = "windlass-bench/busybox:1"
BUSYBOX = Path("/bin/busybox")


def _image() -> str | None:
    """Makes the image from the host's static busybox; why not, if it can't."""
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no Docker Engine answers"
    if not BUSYBOX.exists():
        return "no static busybox here (Debian: busybox-static)"
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(file.name, "w") as tar:
            tar.add(BUSYBOX, "bin/busybox")
            for name in ("sh", "true"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        subprocess.run(["docker", "import", file.name, IMAGE], check=True, capture_output=True)
    return None


async def _bare(docker: aiodocker.Docker) -> None:
    """One container by the plain API: create, start, wait, delete."""
    config: dict[str, Any] = {
        "Image": IMAGE,
        "Entrypoint": ["true"],
        "HostConfig": {"NetworkMode": "none", "NanoCpus": 10**9, "Memory": 64 * 2**20, "PidsLimit": 256},
    }
    container = await docker.containers.create(config)
    await container.start()
    await container.wait()
    await container.delete(force=True)


async def _bare_rate(docker: aiodocker.Docker, count: int, at_once: int) -> float:
    left = iter(range(count))

    async def one() -> None:
        for _ in left:
            await _bare(docker)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return count / (time.perf_counter() - began)


async def rate(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """The rate at two at once, and what is added to one at idle."""
    why = await asyncio.to_thread(_image)
    if why is not None:
        return [Row("containers against the bare Engine API", f"not measured: {why}", ">= 0.90", ">= 1.0")]
    cores = psutil.cpu_count() or 2
    spec = {"image": IMAGE, "command": ["true"], "network": "none", "resources": {"cpu": 1, "memory": "64Mi"}}
    connection = Connection(port)
    count, rounds = (30, 2) if quick else (60, 4)
    ours: list[float] = []
    bare: list[float] = []
    alone: list[float] = []
    alone_bare: list[float] = []
    async with aiodocker.Docker() as docker:
        await wait_all(connection, await submit_all(connection, spec, 4), cores)
        for _ in range(rounds):
            bare.append(await _bare_rate(docker, count, cores))
            began = time.perf_counter()
            await wait_all(connection, await submit_all(connection, spec, count), cores)
            ours.append(count / (time.perf_counter() - began))
        for _ in range(count // 2):
            began = time.perf_counter()
            await _bare(docker)
            alone_bare.append(time.perf_counter() - began)
            began = time.perf_counter()
            _, job = await connection.call("POST", "/v1/jobs", spec)
            await connection.wait(job["id"])
            alone.append(time.perf_counter() - began)
            await asyncio.sleep(0.1)
    await connection.close()
    with suppress(aiodocker.DockerError):
        async with aiodocker.Docker() as docker:
            await docker.images.delete(IMAGE, force=True)
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    added = (statistics.median(alone) - statistics.median(alone_bare)) * 1000
    return [
        Row(
            f"containers, {cores} at once, against the bare Engine API",
            f"{ratio:.2f} ({statistics.median(ours):.1f}/s against {statistics.median(bare):.1f}/s)",
            ">= 0.90",
            ">= 1.0",
            ratio,
        ),
        Row("added to one container's start-to-end", f"{added:.0f} ms", "<= 20 ms", "<= 10 ms"),
    ]
