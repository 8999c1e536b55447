"""Compose: how long a newcomer waits. `python -m bench compose`.

A fresh clone of the last commit, its image built without the engine's cache, `docker-compose up -d`, and the first job;
then the same again from empty volumes with the images there. Public base images are pulled as part of it where they can
be; where they can't, stand-ins made of this machine's own programs are ready beforehand, and the output says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.compose import standins
from tests.images import busybox_image
from tests.ports import reserved_port

from bench.report import Row, machine, table

ROOT = Path(__file__).parents[1]
PROJECT = f"windlass-bench-{os.getpid()}"
IMAGE = f"windlass-bench/windlass:{os.getpid()}"
PUBLIC = "python:3.12-slim"
HELLO = ("--", "echo", "hello")


def _run(*order: str, env: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    done = subprocess.run(order, env=env, cwd=folder, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(order)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _reachable() -> bool:
    """Whether public images can be pulled."""
    asked = ["docker", "manifest", "inspect", PUBLIC]
    return subprocess.run(asked, capture_output=True, timeout=120).returncode == 0


@contextmanager
def _clone(env: Mapping[str, str]) -> Iterator[Path]:
    """A clone of this repository, and the end of what was brought up in it."""
    parent = Path(tempfile.mkdtemp(prefix="windlass-bench-"))
    folder = parent / "windlass"
    try:
        _run("git", "clone", "--quiet", str(ROOT), str(folder))
        yield folder
    finally:
        if folder.exists():
            _run("docker-compose", "down", "--volumes", "--timeout", "10", env=env, folder=folder)
        subprocess.run(["docker", "rmi", "-f", IMAGE], capture_output=True)
        shutil.rmtree(parent)


def _first_job(image: str, env: Mapping[str, str], folder: Path) -> None:
    """Up, and a job to its end."""
    _run("docker-compose", "up", "-d", env=env, folder=folder)
    said = _run("docker-compose", "exec", "-T", "api", "windlass", "run", "-q", "--image", image, *HELLO,
                env=env, folder=folder)  # fmt: skip
    if said != "hello\n":
        raise SystemExit(f"bench: the first job said {said!r}")


def _size(image: str) -> float:
    """Megabytes."""
    return int(_run("docker", "image", "inspect", "-f", "{{.Size}}", image)) / 1e6


def main(args: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench compose", description=__doc__)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    asked = parser.parse_args(args)
    public = _reachable()
    images = {} if public else {name: make().build() for name, make in standins.ALL.items()}
    ports = {f"{name}_PORT": str(reserved_port()) for name in ("API", "PROMETHEUS", "GRAFANA")}
    env = (
        os.environ | images | ports | {"COMPOSE_PROJECT_NAME": PROJECT, "WINDLASS_IMAGE": IMAGE, "DOCKER_BUILDKIT": "0"}
    )
    engine = os.environ.get("DOCKER_HOST", "")
    if engine.startswith("unix://"):
        env["DOCKER_SOCKET"] = engine.removeprefix("unix://")
    job = "busybox" if public else busybox_image()
    began = time.monotonic()
    with _clone(env) as folder:
        _run("docker-compose", "build", "--no-cache", env=env, folder=folder)
        _first_job(job, env, folder)
        cloned = time.monotonic() - began
        _run("docker-compose", "down", "--volumes", env=env, folder=folder)
        began = time.monotonic()
        _first_job(job, env, folder)
        up = time.monotonic() - began
        grown = _size(IMAGE) - _size(images.get("PYTHON_IMAGE", PUBLIC))
    stood = (
        "public base images, pulled as part of it" if public else "stand-ins for the public base images, made before"
    )
    if asked.output == "json":
        found = {"clone_s": cloned, "up_s": up, "image_mb": grown, "images": stood}
        print(json.dumps({"machine": machine(), "compose": found}, indent=1))
        return
    print(f"{machine()}; {stood}")
    print(f"load when it ended: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(table([
        Row("git clone to the first finished job, no cache", f"{cloned:.0f} s", "<= 300 s"),
        Row("`docker-compose up -d` to the first finished job, images there", f"{up:.0f} s", "<= 60 s"),
        Row("the image, over its base", f"{grown:.0f} MB", "<= 250 MB"),
    ]))  # fmt: skip
