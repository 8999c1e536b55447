"""`windlass up`: the whole of Windlass on one machine, in the foreground.

1. take the data folder and see that the port is free;
2. start PostgreSQL and Valkey, bring the schema up to date;
3. start the API, schedulers and workers as processes of their own, and wait until a job could run;
4. say where things are, and bring back what dies;
5. on Ctrl-C or SIGTERM end the workers with their jobs, the schedulers, the API, the servers. A second one kills.
"""

import asyncio
import contextlib
import http.client
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from windlass import __version__
from windlass.cli.fleet import HOST, Addresses, Fleet, roles
from windlass.cli.supervisor import Role, Unit, keep, show_errors, stop_in_order
from windlass.client.models import Node, NodeList
from windlass.core.quantity import show_cpu, show_size
from windlass.embedded.child import last_words
from windlass.embedded.folder import DataFolder
from windlass.embedded.ports import reserve_port
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.errors import SettingsError, WindlassError
from windlass.settings import Settings, default_data
from windlass.sources import load

_READY_S = 30.0

Data = Annotated[Path | None, typer.Option(help="Folder everything is kept in.", show_default="the user's data folder")]
Port = Annotated[int | None, typer.Option(help="Port of the API; 0 takes any free one.", show_default="8000")]
Cpu = Annotated[
    str | None, typer.Option(help="Cores each worker gives away, such as 2 or 500m.", show_default="all, shared evenly")
]
Memory = Annotated[
    str | None, typer.Option(help="Memory each worker gives away, such as 4Gi.", show_default="all, shared evenly")
]
Schedulers = Annotated[int, typer.Option(min=1, max=99, help="How many schedulers; one leads, the others stand by.")]
Workers = Annotated[int, typer.Option(min=1, max=99, help="How many workers, as nodes node-1, node-2 and so on.")]
NoProcess = Annotated[bool, typer.Option("--no-process", help="Run no jobs as plain processes, only in containers.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings; else WINDLASS_CONFIG.")]


def up(
    data: Data = None,
    port: Port = None,
    cpu: Cpu = None,
    memory: Memory = None,
    no_process: NoProcess = False,
    schedulers: Schedulers = 1,
    workers: Workers = 1,
    config: Config = None,
) -> None:
    """Start everything on this machine: PostgreSQL, Valkey, API, schedulers and workers. Ctrl-C stops it all."""
    from windlass import service

    settings = load(config, {"api.port": port, "worker.cpu": cpu, "worker.memory": memory})
    each = (cpu is not None, memory is not None)
    fleet = Fleet.of(settings, schedulers, workers, each=each, processes=not no_process)
    cluster = Cluster(settings, fleet, data or default_data(), config)
    service.run(cluster.run, forced=cluster.kill)


class Cluster:
    """All of it. `run` is its life from the first server to the last."""

    def __init__(self, settings: Settings, fleet: Fleet, data: Path, config: Path | None) -> None:
        self._settings = settings
        self._fleet = fleet
        self._data = data
        self._config = config
        self._groups: list[list[Role]] = []
        self._servers: list[Unit] = []
        self._started = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Start, stay until stop is set, end. Raises WindlassError when it can't start."""
        with reserve(self._settings.api.port) as reserved, DataFolder(self._data) as folder:
            port = reserved.getsockname()[1]
            life = asyncio.create_task(self._live(folder, port))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((life, stopping), return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    say("stopping; press Ctrl-C again to kill")
            finally:
                stopping.cancel()
                try:
                    await _end(life)
                finally:
                    await self._stop()

    @property
    def _roles(self) -> list[Role]:
        return [role for group in self._groups for role in group]

    def kill(self) -> None:
        """End every process at once. Jobs that run are taken over at the next start."""
        for unit in (*self._roles, *self._servers):
            unit.kill()

    async def _live(self, folder: DataFolder, port: int) -> None:
        postgres, valkey = Postgres(folder), Valkey(folder)
        self._servers = [postgres, valkey]
        database_url, redis_url = await asyncio.gather(postgres.start(), valkey.start())
        from windlass.store.migrate import migrate

        await migrate(database_url)
        started_at = datetime.now(UTC)
        addresses = Addresses(database_url, redis_url, port)
        self._groups = roles(self._fleet, self._settings, self._config, folder, addresses)
        for role in self._roles:
            await role.start()
        async with asyncio.TaskGroup() as group:
            for unit in (*self._roles, *self._servers):
                group.create_task(keep(unit, say))
            group.create_task(show_errors(self._roles, say))
            nodes = await self._ready(port, started_at)
            self._welcome(folder, port, nodes)

    async def _ready(self, port: int, since: datetime) -> list[Node]:
        """The nodes, once the API is ready and every worker has said after `since` that it is."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if await asyncio.to_thread(get, port, "/readyz"):
                answer = await asyncio.to_thread(get, port, "/v1/nodes")
                known = msgspec.json.decode(answer, type=NodeList).nodes if answer else []
                fresh = [node for node in known if node.heartbeat_at and node.heartbeat_at >= since]
                ready = [node for node in fresh if node.state == "ready"]
                if len(ready) >= self._fleet.workers:
                    return ready
            await asyncio.sleep(0.03)
        words = "\n".join(f"-- {role.log}\n{last_words(role.log, 5)}" for role in self._roles)
        raise WindlassError(f"not ready after {_READY_S:g} s; the last words of each role:\n{words}")

    def _welcome(self, folder: DataFolder, port: int, nodes: Sequence[Node]) -> None:
        url, fleet = f"http://{HOST}:{port}", self._fleet
        names = nodes[0].name if len(nodes) == 1 else f"{', '.join(node.name for node in nodes)}, each"
        lines = [
            f"Windlass {__version__} is ready after {time.monotonic() - self._started:.1f} s.",
            f"  API    {url}   docs: {url}/docs",
            f"  node   {names}: {show_cpu(fleet.cpu)} cores, {show_size(fleet.memory)}; {offers(nodes[0])}",
            f"  data   {folder.path}   logs: {folder.path / 'log'}",
            "  Ctrl-C stops everything.",
        ]
        if fleet.schedulers > 1:
            lines.insert(2, f"  leads  one of {fleet.schedulers} schedulers; `windlass status` shows which")
        print("\n".join(lines), flush=True)

    async def _stop(self) -> None:
        last_first: Sequence[Sequence[Unit]] = [*reversed(self._groups), self._servers]
        await stop_in_order(last_first)


def say(text: str) -> None:
    """A line to whoever watches the terminal; with nobody there, or a full disk behind it, the work goes on."""
    with contextlib.suppress(OSError):
        print(time.strftime("%H:%M:%S"), text, flush=True)


def offers(node: Node) -> str:
    """In one sentence how jobs run here, and why not in containers."""
    processes = "process" in node.drivers
    if "docker" in node.drivers:
        return "jobs run in containers" + (" or, without an image, as processes" if processes else "")
    why = node.facts.get("docker", {}).get("detail") or "no Docker Engine is looked for"
    return (
        f"{'jobs run as plain processes' if processes else 'no job can run, since processes are not allowed'} ({why})"
    )


def reserve(port: int) -> socket.socket:
    """Reserve the API's port, or any free one for 0. Raises SettingsError when another process has it."""
    try:
        return reserve_port(port, HOST)
    except OSError as e:
        raise SettingsError(
            f"port {port} on {HOST} can't be had ({e.strerror}): stop what listens there, "
            "or choose another one with --port"
        ) from None


def get(port: int, path: str) -> bytes:
    """The body the API answers a GET with; nothing while it answers none, or another status than 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel it where it still runs; raises what it raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
