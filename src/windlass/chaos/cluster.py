"""A cluster to break: real servers and every role a process of its own, at the timings everyone gets by default.

All of it is tied to this process and to one folder: roles and servers die with it, and whatever else carries the
folder in its environment (jobs, watchdogs) is found by that and ended.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from windlass.chaos import engine
from windlass.chaos.net import Net
from windlass.embedded.child import Child, last_words
from windlass.embedded.folder import DataFolder
from windlass.embedded.ports import reserve_port
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.errors import WindlassError
from windlass.sources import PREFIX, variable
from windlass.store.migrate import migrate

HOST = "127.0.0.1"
#: cores each node says it has; jobs here mostly sleep
NODE_CPU = 4
_STOP_S = 10.0
#: What a process of ours has in its environment, or, without one, in its arguments.
_SIGNS = (PREFIX.encode(), b"windlass/watchdog")


class Member:
    """One Windlass process of the cluster."""

    def __init__(self, role: str, name: str, env: Mapping[str, str], folder: Path) -> None:
        self.role, self.name, self.log = role, name, folder / "log" / f"{name}.log"
        self._env, self._cwd = env, folder
        self._child: Child | None = None
        self.frozen = False

    @property
    def running(self) -> bool:
        """Whether its process lives, frozen or not."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int:
        """Its process id; of the last one when it has ended."""
        assert self._child is not None
        return self._child.pid

    def start(self) -> None:
        """Start it; again, after its end."""
        self.frozen = False
        self._child = Child.spawn(
            [sys.executable, "-P", "-m", "windlass", self.role], log=self.log, env=self._env, cwd=self._cwd
        )

    async def ended(self) -> int:
        """Its exit code once it has ended."""
        assert self._child is not None
        return await self._child.wait()

    def send(self, number: signal.Signals) -> None:
        """Signal this one process, and nobody else of its group."""
        if self._child is not None:
            self._child.send(number)

    async def kill(self) -> None:
        """kill -9; returns when it is gone."""
        self.send(signal.SIGKILL)
        await self.ended()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self.send(signal.SIGCONT)

    async def stop(self, within_s: float = _STOP_S) -> None:
        """End it politely, then not."""
        if self._child is not None and self._child.running:
            self.thaw()
            await self._child.end(signal.SIGTERM, within_s)

    def memory(self) -> float | None:
        """Resident memory in MiB; None while it does not run."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) / 1024
        return None


class Cluster:
    """Servers and members. Use it as an async context manager: within, all of it runs; after, none of it."""

    def __init__(self, folder: Path, *, driver: str, schedulers: int = 3, workers: int = 3, apis: int = 2) -> None:
        self.folder, self.driver = folder, driver
        self.evidence = folder / "evidence"
        self.name = folder.name
        self._reserved = [reserve_port() for _ in range(apis)]
        self.ports = [reserved.getsockname()[1] for reserved in self._reserved]
        self._counts = {"api": apis, "scheduler": schedulers, "worker": workers}
        self.members: dict[str, Member] = {}
        self.database_url = self.redis_url = ""
        self._data = DataFolder(folder / "data")
        self.postgres, self.valkey = Postgres(self._data), Valkey(self._data)
        self.net = Net(folder / "net", self._data.sockets)

    async def __aenter__(self) -> "Cluster":
        self.evidence.mkdir()
        self.evidence.chmod(0o1777)
        (self.folder / "log").mkdir()
        self._data.__enter__()
        try:
            self.database_url, self.redis_url = await asyncio.gather(self.postgres.start(), self.valkey.start())
            await migrate(self.database_url)
            for role, count in self._counts.items():
                for number in range(1, count + 1):
                    await self._add(role, number)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            for role in ("worker", "scheduler", "api"):
                await asyncio.gather(*(member.stop() for member in self.of(role)))
            await asyncio.gather(self.postgres.stop(), self.valkey.stop())
            await self.net.close()
        finally:
            for reserved in self._reserved:
                reserved.close()
            for pid in self.strays():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.driver == "docker":
                for container in await engine.containers(self.name):
                    await engine.remove(container)
            self._data.__exit__(None, None, None)

    def of(self, role: str) -> list[Member]:
        """The members of one role."""
        return [member for member in self.members.values() if member.role == role]

    def urls(self) -> list[str]:
        """The APIs'."""
        return [f"http://{HOST}:{port}" for port in self.ports]

    def kill(self) -> None:
        """End everything at once."""
        for member in self.members.values():
            member.send(signal.SIGKILL)
        self.postgres.kill()
        self.valkey.kill()

    def strays(self) -> list[int]:
        """Process ids of what belongs to this cluster and is neither a server nor a member."""
        own = {member.pid for member in self.members.values() if member.running}
        return [pid for pid in mentioning(self.folder) if pid not in own and pid != os.getpid()]

    def beside(self, member: Member) -> list[int]:
        """Process ids of the watchdog beside this worker: those that were given its data folder."""
        data = os.fsencode(self._data_of(member.name)) + b"\0"
        found: list[int] = []
        for pid in self.strays():
            with contextlib.suppress(OSError):
                told = Path(f"/proc/{pid}/cmdline").read_bytes()
                if _SIGNS[1] in told and data in told:
                    found.append(pid)
        return found

    def words(self) -> str:
        """The last words of every member."""
        return "\n".join(f"-- {member.name}\n{last_words(member.log, 5)}" for member in self.members.values())

    async def _add(self, role: str, number: int) -> None:
        name = f"{role}-{number}"
        settings = {"cluster": self.name, "redis.url": await self.net.redis_url(name), "log.format": "json"}
        if role == "worker":
            port = await self.net.port(name, self.ports[number % len(self.ports)])
            settings |= self._node(name) | {"api.url": f"http://{HOST}:{port}"}
        else:
            settings["database.url"] = await self.net.database_url(name, self.database_url)
        if role == "api":
            settings |= {"api.port": str(self.ports[number - 1]), "api.allow_anonymous": "true"}
        own = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        env = own | {variable(key): value for key, value in settings.items()}
        member = self.members[name] = Member(role, name, env, self.folder)
        member.start()

    def _data_of(self, name: str) -> Path:
        return self.folder / name

    def _node(self, name: str) -> dict[str, str]:
        return {
            "worker.name": name,
            "worker.data": str(self._data_of(name)),
            "worker.cpu": str(NODE_CPU),
            "worker.memory": "16Gi",
            "worker.drivers": self.driver,
            "worker.allow_process": "true",
            "worker.volumes_allowed": str(self.evidence),
        }

    def check(self) -> None:
        """Raises WindlassError when a member has ended by itself, such as for a setting it refuses."""
        for member in self.members.values():
            if not member.running:
                raise WindlassError(f"{member.name} ended by itself:\n{last_words(member.log, 10)}")


def mentioning(folder: Path) -> Iterator[int]:
    """Processes of Windlass's, or of its jobs, that carry the folder in their environment; and watchdogs, which have
    none, by their arguments."""
    mark = os.fsencode(folder)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                told = ((entry / name).read_bytes() for name in ("environ", "cmdline"))
                if any(mark in text and sign in text for text, sign in zip(told, _SIGNS, strict=True)):
                    yield int(entry.name)
