"""The roles, each a process: `windlass api | scheduler | worker`, and `windlass migrate`.

Composition roots: here settings are read and handed to the role as values.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from windlass.errors import SettingsError
from windlass.settings import Database, Settings

Serve = Callable[[Settings, asyncio.Event], Awaitable[None]]

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings; else WINDLASS_CONFIG.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")]
Name = Annotated[str | None, typer.Option(help="The node's name.", show_default="the host's")]
Data = Annotated[Path | None, typer.Option(help="Folder for the worker's own files.", show_default="DATA/worker")]
Cpu = Annotated[str | None, typer.Option(help="Cores to give away, such as 4 or 500m.", show_default="all")]
Memory = Annotated[str | None, typer.Option(help="Memory to give away, such as 8Gi.", show_default="all")]


def api(config: Config = None, host: Host = None, port: Port = None) -> None:
    """Start an API server. Needs WINDLASS_DATABASE_URL and WINDLASS_REDIS_URL."""
    from windlass.sources import load, require

    settings = load(config, {"api.host": host, "api.port": port})
    require(settings, "database.url", "redis.url")
    _refuse_strangers(settings)
    from windlass.api.app import serve

    _run("api", settings, serve)


def scheduler(config: Config = None) -> None:
    """Start a scheduler. Any number may run; one leads. Needs WINDLASS_DATABASE_URL and WINDLASS_REDIS_URL."""
    from windlass.sources import load, require

    settings = load(config)
    require(settings, "database.url", "redis.url")
    from windlass.scheduler.leader import serve

    _run("scheduler", settings, serve)


def worker(config: Config = None, name: Name = None, data: Data = None, cpu: Cpu = None, memory: Memory = None) -> None:
    """Start this node's worker. Needs WINDLASS_REDIS_URL and WINDLASS_API_URL; it never sees the database."""
    from windlass.sources import load, require

    flags = {"worker.name": name, "worker.data": data, "worker.cpu": cpu, "worker.memory": memory}
    settings = load(config, flags)
    require(settings, "redis.url", "api.url")
    from windlass.worker.serve import serve

    _run("worker", msgspec.structs.replace(settings, database=Database()), serve)


def migrate(config: Config = None) -> None:
    """Bring the database's schema up to date. Needs WINDLASS_DATABASE_URL; safe to run any number of times."""
    from windlass.sources import load, require

    settings = load(config)
    require(settings, "database.url")
    from windlass.store.migrate import keep_session_settings
    from windlass.store.migrate import migrate as bring_up_to_date

    applied = asyncio.run(bring_up_to_date(settings.database.url))
    if settings.database.pooled:
        asyncio.run(keep_session_settings(settings.database.url))
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("nothing to do: the schema is up to date")


def _run(role: str, settings: Settings, serve: Serve) -> None:
    from windlass import service, telemetry

    telemetry.configure(settings.log, role)
    if role != "api":  # which has the page on its own port
        telemetry.serve_metrics(settings.metrics)
    service.run(lambda stop: serve(settings, stop))


def _refuse_strangers(settings: Settings) -> None:
    """Beyond this machine there must be credentials, and so far there are none."""
    host = settings.api.host
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost"
    if not near and not settings.api.allow_anonymous:
        raise SettingsError(
            f"api.host = {host!r} would let anyone who reaches it run jobs: listen on 127.0.0.1, "
            "or set WINDLASS_API_ALLOW_ANONYMOUS=true where the network itself keeps strangers out"
        )
