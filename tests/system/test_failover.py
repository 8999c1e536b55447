"""PostgreSQL's machine is lost, and its synchronous standby becomes the server: no accepted job is."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.conftest import Servers
from tests.ports import reserved_port
from tests.support import wait_until
from tests.system.cluster import Cluster
from tests.system.test_outages import all_ran_once
from windlass.embedded.account import reachable, unprivileged
from windlass.embedded.postgres import wheel
from windlass.store.migrate import migrate


class Server:
    """A PostgreSQL on a port of loopback, with its files in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data, self.port, self._account = folder / "data", reserved_port(), unprivileged()
        folder.mkdir()
        if self._account is not None:
            os.chown(folder, self._account.uid, self._account.gid)
        self._programs = folder.parent / "bin"
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://windlass@127.0.0.1:{self.port}/postgres"

    def _argv(self, program: str, *options: str) -> dict[str, Any]:
        own = {"user": self._account.uid, "group": self._account.gid, "extra_groups": []} if self._account else {}
        return {"args": [reachable(wheel(program), self._account, self._programs), *options], "cwd": "/", **own}

    def make(self) -> None:
        options = ("-D", str(self.data), "-U", "windlass", "-A", "trust", "-E", "UTF8", "--no-sync")
        subprocess.run(**self._argv("initdb", *options), check=True, capture_output=True)

    def copy(self, primary: "Server") -> None:
        """Become the primary's standby."""
        options = ("-D", str(self.data), "-d", primary.url, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        subprocess.run(**self._argv("pg_basebackup", *options), check=True, capture_output=True)

    def start(self) -> None:
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
                    "wal_level": "replica", "hot_standby": "on"}  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(**self._argv("postgres", "-D", str(self.data), *options), stderr=log)

    def ask(self, query: str) -> object:
        """The first column of the first row; None while nobody answers."""
        try:
            with psycopg.connect(self.url, autocommit=True) as conn:
                row = conn.execute(query.encode()).fetchone()
        except psycopg.OperationalError:
            return None
        return row and row[0]

    def kill(self) -> None:
        """All of its processes at once: its machine is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
async def pair(roomy_folder: Path) -> AsyncIterator[tuple[Server, Server]]:
    """A primary whose commits wait for its standby."""
    folder = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="pair "))
    folder.chmod(0o711)
    primary, standby = Server(folder / "one"), Server(folder / "two")
    try:
        primary.make()
        primary.start()
        await wait_until(lambda: primary.ask("SELECT 1"), "the primary answers")
        standby.copy(primary)
        standby.start()
        with psycopg.connect(primary.url, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            conn.execute("SELECT pg_reload_conf()")
        in_step = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        await wait_until(lambda: primary.ask(in_step), "the standby is in step")
        await migrate(primary.url)
        yield primary, standby
    finally:
        for server in (primary, standby):
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_synchronous_standby_takes_over(
    pair: tuple[Server, Server], servers: Servers, roomy_folder: Path
) -> None:
    primary, standby = pair
    both = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = f"postgresql://windlass@{both}/postgres?target_session_attrs=read-write"
    folder = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="failover "))
    folder.chmod(0o711)
    cluster = Cluster(folder, "failover", url, servers.valkey_url)
    try:
        cluster.api()
        cluster.scheduler()
        cluster.worker()
        await cluster.ready()
        long = cluster.submit(cluster.spec("long", "sleep 6"))
        await wait_until(lambda: cluster.starts("long") == [1], "it runs")
        accepted: dict[str, str] = {}

        def submit(number: int) -> bool:
            """With its key, until an API says yes."""
            key = f"key-{number}"
            try:
                accepted[key] = cluster.submit(cluster.spec(key), key=key)
            except (AssertionError, httpx2.TransportError):
                return False
            return True

        for number in range(120):
            if number == 60:
                primary.kill()
                assert not submit(number)
                standby.ask("SELECT pg_promote()")
            await wait_until(lambda number=number: submit(number), "it is accepted")
        jobs = await cluster.over(long, *accepted.values())
        all_ran_once(cluster, jobs)
        assert len(set(accepted.values())) == len(accepted) == 120
        assert len(cluster.jobs()) == 121
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)
