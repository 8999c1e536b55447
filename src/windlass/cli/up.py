"""`windlass up`: the whole of Windlass on one machine, in the foreground.

1. take the data folder and see that the port is free;
2. start PostgreSQL and Valkey, bring the schema up to date;
3. start the API, a scheduler and a worker as processes of their own, and wait until a job could run;
4. say where things are, and bring back what dies;
5. on Ctrl-C or SIGTERM end the worker with its jobs, the scheduler, the API, the servers. A second one kills.
"""

import asyncio
import contextlib
import http.client
import os
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from windlass import __version__
from windlass.cli.supervisor import Role, Unit, keep, show_errors, stop_in_order
from windlass.client.models import Node, NodeList
from windlass.core.quantity import show_cpu, show_size
from windlass.embedded.child import last_words
from windlass.embedded.folder import DataFolder
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.errors import SettingsError, WindlassError
from windlass.settings import Settings, default_data
from windlass.sources import load, variable

HOST = "127.0.0.1"
_READY_S = 30.0
#: Together with the servers' own times below the ten seconds a stop may take.
_WORKER_STOP_S, _ROLE_STOP_S = 5.5, 1.0

Data = Annotated[Path | None, typer.Option(help="Folder everything is kept in.", show_default="the user's data folder")]
Port = Annotated[int | None, typer.Option(help="Port of the API; 0 takes any free one.", show_default="8000")]
Cpu = Annotated[str | None, typer.Option(help="Cores to give away, such as 2 or 500m.", show_default="all")]
Memory = Annotated[str | None, typer.Option(help="Memory to give away, such as 4Gi.", show_default="all")]
NoProcess = Annotated[bool, typer.Option("--no-process", help="Run no jobs as plain processes, only in containers.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings; else WINDLASS_CONFIG.")]


def up(
    data: Data = None,
    port: Port = None,
    cpu: Cpu = None,
    memory: Memory = None,
    no_process: NoProcess = False,
    config: Config = None,
) -> None:
    """Start everything on this machine: PostgreSQL, Valkey, API, scheduler and worker. Ctrl-C stops it all."""
    from windlass import service

    settings = load(config, {"api.port": port, "worker.cpu": cpu, "worker.memory": memory})
    cluster = Cluster(settings, data or default_data(), config, processes=not no_process)
    service.run(cluster.run, forced=cluster.kill)


class Cluster:
    """All of it. `run` is its life from the first server to the last."""

    def __init__(self, settings: Settings, data: Path, config: Path | None, *, processes: bool) -> None:
        self._settings = settings
        self._data = data
        self._config = config
        self._processes = processes
        self._roles: list[Role] = []
        self._servers: list[Unit] = []
        self._started = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Start, stay until stop is set, end. Raises WindlassError when it can't start."""
        port = free_port(self._settings.api.port)
        with DataFolder(self._data) as folder:
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
        self._roles = self._specs(folder, port, database_url, redis_url)
        for role in self._roles:
            await role.start()
        async with asyncio.TaskGroup() as group:
            for unit in (*self._roles, *self._servers):
                group.create_task(keep(unit, say))
            group.create_task(show_errors(self._roles, say))
            node = await self._ready(port, started_at)
            self._welcome(folder, port, node)

    def _specs(self, folder: DataFolder, port: int, database_url: str, redis_url: str) -> list[Role]:
        """The roles to run; more schedulers or workers would be more entries."""
        api_url = f"http://{HOST}:{port}"
        worker = self._settings.worker
        drivers = [driver for driver in worker.drivers if driver != "process"]
        shared = {"redis.url": redis_url, "log.format": "json"}
        ledger = shared | {"database.url": database_url}
        jobs = {
            "api.url": api_url,
            "worker.data": str(folder.private("worker")),
            "worker.cpu": str(worker.cpu),
            "worker.memory": str(worker.memory),
            "worker.drivers": ",".join([*drivers, "process"] if self._processes else drivers),
            "worker.allow_process": str(self._processes).lower(),
            "worker.on_exit": "stop",
            "worker.stop_within_s": str(_WORKER_STOP_S - 0.5),
        }
        specs: list[tuple[str, Mapping[str, str], float]] = [
            ("api", ledger | {"api.host": HOST, "api.port": str(port), "api.url": api_url}, _ROLE_STOP_S),
            ("scheduler", ledger, _ROLE_STOP_S),
            ("worker", shared | jobs, _WORKER_STOP_S),
        ]
        return [Role(role, role, self._env(own), folder.log(role), patience) for role, own, patience in specs]

    def _env(self, own: Mapping[str, str]) -> dict[str, str]:
        """This process's variables under the role's own; the ledger's address only where the role was given it."""
        env = {name: value for name, value in os.environ.items() if name != variable("database.url")}
        if self._config is not None:
            env["WINDLASS_CONFIG"] = str(self._config.absolute())
        return env | {variable(key): value for key, value in own.items()}

    async def _ready(self, port: int, since: datetime) -> Node:
        """The node, once the API is ready and a worker has said so after `since`."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if await asyncio.to_thread(get, port, "/readyz"):
                answer = await asyncio.to_thread(get, port, "/v1/nodes")
                for node in msgspec.json.decode(answer, type=NodeList).nodes if answer else []:
                    if node.state == "ready" and node.heartbeat_at and node.heartbeat_at >= since:
                        return node
            await asyncio.sleep(0.03)
        words = "\n".join(f"-- {role.log}\n{last_words(role.log, 5)}" for role in self._roles)
        raise WindlassError(f"not ready after {_READY_S:g} s; the last words of each role:\n{words}")

    def _welcome(self, folder: DataFolder, port: int, node: Node) -> None:
        url, worker = f"http://{HOST}:{port}", self._settings.worker
        lines = [
            f"Windlass {__version__} is ready after {time.monotonic() - self._started:.1f} s.",
            f"  API    {url}   docs: {url}/docs",
            f"  node   {node.name}: {show_cpu(worker.cpu)} cores, {show_size(worker.memory)}; {offers(node)}",
            f"  data   {folder.path}   logs: {folder.path / 'log'}",
            "  Ctrl-C stops everything.",
        ]
        print("\n".join(lines), flush=True)

    async def _stop(self) -> None:
        last_first: Sequence[Sequence[Unit]] = [*([role] for role in reversed(self._roles)), self._servers]
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


def free_port(port: int) -> int:
    """The port, or any free one for 0. Raises SettingsError when somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as e:
            raise SettingsError(
                f"port {port} on {HOST} can't be had ({e.strerror}): stop what listens there, "
                "or choose another one with --port"
            ) from None
        return probe.getsockname()[1]


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
