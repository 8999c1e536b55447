"""docs/how-to/several-machines.md, typed: every role by itself, as if on a machine of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.access.site import Streams
from tests.conftest import Servers
from tests.house.pages import section
from tests.ports import reserved_port
from tests.support import wait_until
from windlass.embedded.valkey import wheel

SERVERS, MIGRATE, API, SCHEDULER, JOIN, WORKER, _UNITS = (
    block.text for block in section("docs/how-to/several-machines.md", "Run on several machines")
)


class Desk:
    """Where the page is typed: what it has for an example is replaced by what is here."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, port: int) -> None:
        self.folder, self.started = folder, list[subprocess.Popen[bytes]]()
        self.here = {
            "postgresql://windlass:secret@db.internal:5432/windlass": database_url,
            "redis://redis.internal:6379/0": redis_url,
            "http://api.internal:8000": f"http://127.0.0.1:{port}",
            "0.0.0.0": "127.0.0.1",
            "/etc/windlass": str(folder),
        }
        own = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        mine = {"API_PORT": str(port), "DATABASE_URL": database_url, "WORKER_DATA": str(folder / "worker"),
                "WORKER_DRIVERS": "process", "WORKER_ALLOW_PROCESS": "true"}  # fmt: skip
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = own | {f"WINDLASS_{name}": value for name, value in mine.items()} | {"PATH": path}

    def typed(self, text: str) -> str:
        """What the page shows, as it is typed here."""
        return re.sub("|".join(map(re.escape, self.here)), lambda found: self.here[found[0]], text)

    def run(self, text: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", self.typed(text)], env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, text: str) -> None:
        """The same for what ends only when it is told to."""
        with (self.folder / f"{len(self.started)}.log").open("wb") as log:
            order = ["bash", "-ec", self.typed(text)]
            self.started.append(subprocess.Popen(order, env=self.env, stdout=log, stderr=log, start_new_session=True))

    def said(self) -> str:
        return "\n".join(log.read_text()[-2000:] for log in sorted(self.folder.glob("*.log")))


@pytest.fixture
def desk(servers: Servers, tmp_path: Path) -> Iterator[Desk]:
    streams = Streams(str(wheel().site / wheel().program), tmp_path)
    servers.execute("CREATE DATABASE several")
    streams.start()
    made = Desk(tmp_path, servers.url_of("several"), streams.url, reserved_port())
    yield made
    for process in reversed(made.started):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    streams.kill()
    servers.execute("DROP DATABASE several WITH (FORCE)")


async def test_the_page_makes_a_cluster(desk: Desk) -> None:
    assert "applied 0001" in desk.run(MIGRATE)
    desk.start(API)
    desk.start(SCHEDULER)
    token = f"export WINDLASS_URL=http://api.internal:8000 WINDLASS_TOKEN_FILE={desk.folder}/admin-token\n"

    def let_in() -> bool:
        asked = ["bash", "-c", desk.typed(f"{token}windlass token whoami")]
        return subprocess.run(asked, env=desk.env, capture_output=True, timeout=60).returncode == 0

    await wait_until(let_in, "the API knows its admin")
    desk.here["wlj_..."] = desk.run(JOIN).strip()
    desk.start(WORKER)
    assert desk.run(f"{token}windlass run -q -- echo hello") == "hello\n", desk.said()
    assert "1 ready" in desk.run(f"{token}windlass status"), desk.said()
