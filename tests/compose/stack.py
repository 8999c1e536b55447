"""The real docker-compose.yml on the real engine, as a test's own project, with stand-ins for public images."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx2

from tests.compose import standins
from tests.images import busybox_image
from tests.ports import reserved_port

ROOT = Path(__file__).parents[2]
PORTS = ("API_PORT", "REDIS_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
PROGRAMS = {
    "docker-compose": "docker-compose",
    "redis-check-rdb": "redis-tools",
    "prometheus": "prometheus",
    "busybox": "busybox-static",
    "systemd-analyze": "systemd",
}


@cache
def compose_missing() -> str:
    """Why no test with Compose can run here; "" when they can."""
    missing = [f"{name} (Debian: {package})" for name, package in PROGRAMS.items() if shutil.which(name) is None]
    return f"missing on this machine: {', '.join(missing)}" if missing else ""


@cache
def v2_missing() -> str:
    """Why `docker compose` can't be tried here; "" when it can."""
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, timeout=20)
    return "this machine's docker has no `compose`" if asked.returncode else ""


@contextmanager
def building() -> Iterator[None]:
    """One builds Windlass' image at a time: the next finds its layers made."""
    with (Path(tempfile.gettempdir()) / "windlass-test-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Stack:
    """One Compose project, and which Compose brings it up."""

    def __init__(self, *command: str) -> None:
        self.command = command or ("docker-compose",)
        self.project = f"windlass-test-{os.getpid()}{'-v2' if command else ''}"
        self.image = "windlass-test/compose/windlass:test"
        self.ports = {name: str(reserved_port()) for name in PORTS}
        self.images: dict[str, str] = {}

    def prepare(self) -> None:
        """The stand-ins, and Windlass' own image by its Dockerfile."""
        self.images = {variable: make().build() for variable, make in standins.ALL.items()}
        before = self._image_id()
        with building():
            self.compose("build", limit_s=600)
        if before not in ("", self._image_id()):
            subprocess.run(["docker", "rmi", before], capture_output=True)

    def compose(self, *words: str, limit_s: float = 120) -> str:
        """Run Compose with these words; what it prints."""
        order = [*self.command, *words]
        done = subprocess.run(order, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=limit_s)
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def type(self, *shown: str, swaps: Mapping[str, str] | None = None) -> str:
        """What pages show, typed into one shell on a terminal of its own; what it says. The first command that fails
        ends it. What pages can't know of this machine is put in: ports, images, and `swaps`."""
        script = "".join(self.as_typed(text, swaps) for text in shown)
        order = ["script", "--quiet", "--return", "--command", 'bash -exc "$SCRIPT"', "/dev/null"]
        env = self.env | {"SCRIPT": script, "SHELL": "/bin/sh"}
        done = subprocess.run(order, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300)  # fmt: skip
        said = done.stdout.replace("\r", "")
        assert done.returncode == 0, f"{script}\n-- ended with {done.returncode}, and said:\n{said[-6000:]}"
        return said

    def as_typed(self, text: str, swaps: Mapping[str, str] | None = None) -> str:
        """The text with what this machine has in place of what pages have for an example."""
        here = {
            r"\bdocker-compose(?= )": " ".join(self.command),
            r"(?<=--image )busybox\b": busybox_image(),
            r"\b10\.0\.0\.5\b": "127.0.0.1",
            r":8000\b": f":{self.ports['API_PORT']}",
            r":6379\b": f":{self.ports['REDIS_PORT']}",
            r":9090\b": f":{self.ports['PROMETHEUS_PORT']}",
        }
        for example, found in (here | dict(swaps or {})).items():
            text = re.sub(example, found, text)
        return text

    @property
    def env(self) -> dict[str, str]:
        """What a user would write into .env, and a windlass on the host that knows the API's port."""
        mine = self.ports | self.images | {"WINDLASS_IMAGE": self.image, "DOCKER_BUILDKIT": "0"}
        mine |= {"COMPOSE_PROJECT_NAME": self.project, "WORKER_CPU": "4", "WINDLASS_URL": self.url}
        mine["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        engine = os.environ.get("DOCKER_HOST", "")
        if engine.startswith("unix://"):
            mine["DOCKER_SOCKET"] = engine.removeprefix("unix://")
        return os.environ | mine

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['API_PORT']}"

    def windlass(self, *words: str) -> str:
        """A command as an operator types it: docker-compose exec api windlass ..."""
        return self.compose("exec", "-T", "api", "windlass", *words)

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What the engine says of them."""
        labels = [f"label=com.docker.compose.project={self.project}"]
        labels += [f"label=com.docker.compose.service={service}"] if service else []
        asked = ["docker", "ps", "-aq", *(part for label in labels for part in ("--filter", label))]
        ids = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
        return _inspected(*ids) if ids else []

    def page(self, port: str, path: str) -> httpx2.Response:
        """An answer of a published port."""
        return httpx2.get(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10, trust_env=False)

    def remove(self) -> None:
        """Everything of it, with its volumes."""
        self.compose("down", "--volumes", "--timeout", "10", limit_s=180)

    def volumes(self) -> list[str]:
        """Those the engine keeps for it."""
        asked = ["docker", "volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={self.project}"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()

    def _image_id(self) -> str:
        asked = ["docker", "image", "inspect", "-f", "{{.Id}}", self.image]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


def _inspected(*names: str) -> list[dict[str, Any]]:
    done = subprocess.run(["docker", "inspect", *names], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def inspected(name: str) -> dict[str, Any]:
    """What the engine says of an image or a container."""
    return _inspected(name)[0]
