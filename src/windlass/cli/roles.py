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

from windlass.settings import Database, Settings

Serve = Callable[[Settings, asyncio.Event], Awaitable[None]]

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings; else WINDLASS_CONFIG.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")]
Name = Annotated[str | None, typer.Option(help="The node's name.", show_default="the host's")]
Data = Annotated[Path | None, typer.Option(help="Folder for the worker's own files.", show_default="DATA/worker")]
Cpu = Annotated[str | None, typer.Option(help="Cores to give away, such as 4 or 500m.", show_default="all")]
Memory = Annotated[str | None, typer.Option(help="Memory to give away, such as 8Gi.", show_default="all")]
Join = Annotated[str | None, typer.Option(help="Join token, for the first start.", show_default="none")]
ApiUrl = Annotated[str | None, typer.Option("--api-url", help="Where the API is.", show_default="WINDLASS_API_URL")]


def api(config: Config = None, host: Host = None, port: Port = None) -> None:
    """Start an API server. Needs WINDLASS_DATABASE_URL and WINDLASS_REDIS_URL."""
    from windlass.sources import load, require

    settings = load(config, {"api.host": host, "api.port": port})
    require(settings, "database.url", "redis.url")
    from windlass.api.app import serve

    _run("api", settings, serve, _warn_of_strangers)


def scheduler(config: Config = None) -> None:
    """Start a scheduler. Any number may run; one leads. Needs WINDLASS_DATABASE_URL and WINDLASS_REDIS_URL."""
    from windlass.sources import load, require

    settings = load(config)
    require(settings, "database.url", "redis.url")
    from windlass.scheduler.leader import serve

    _run("scheduler", settings, serve)


def worker(
    config: Config = None,
    name: Name = None,
    data: Data = None,
    cpu: Cpu = None,
    memory: Memory = None,
    join: Join = None,
    api_url: ApiUrl = None,
) -> None:
    """Start this node's worker. It needs to know where the API is, and with --join nothing else: it keeps what it is
    given. Without, it needs WINDLASS_REDIS_URL too. It never sees the database."""
    from windlass.sources import load, require

    flags = {"worker.name": name, "worker.data": data, "worker.cpu": cpu, "worker.memory": memory}
    settings = load(config, flags | {"worker.join": join, "api.url": api_url})
    require(settings, "api.url")
    from windlass.worker.join import check
    from windlass.worker.serve import serve

    check(settings)

    _run("worker", msgspec.structs.replace(settings, database=Database()), serve)


def migrate(config: Config = None) -> None:
    """Bring the database's schema up to date. Needs WINDLASS_DATABASE_URL; safe to run any number of times."""
    from windlass.sources import load, require

    settings = load(config)
    require(settings, "database.url")
    import psycopg

    from windlass.errors import Unavailable
    from windlass.store.migrate import keep_session_settings
    from windlass.store.migrate import migrate as bring_up_to_date

    try:
        applied = asyncio.run(bring_up_to_date(settings.database.url))
        if settings.database.pooled:
            asyncio.run(keep_session_settings(settings.database.url))
    except psycopg.OperationalError as error:
        raise Unavailable(f"database.url: {' '.join(str(error).split())}") from error
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("nothing to do: the schema is up to date")


def _run(
    role: str, settings: Settings, serve: Serve, first: Callable[[Settings], None] = lambda settings: None
) -> None:
    from windlass import service, telemetry, tracing

    telemetry.configure(settings.log, role)
    first(settings)
    telemetry.serve_metrics(settings.metrics, role)
    telemetry.export_spans(settings.tracing, role, settings.cluster)
    try:
        service.run(lambda stop: serve(settings, stop))
    finally:
        tracing.close()


def _warn_of_strangers(settings: Settings) -> None:
    """Say what a listener beyond this machine means; log lines, for it may be what is wanted."""
    import structlog

    host, log = settings.api.host, structlog.get_logger("api")
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost"
    if near:
        return
    if settings.api.allow_anonymous:
        log.warning("anyone_may_do_anything", host=host, why="api.allow_anonymous is set")
    elif not settings.api.tls_cert_file:
        log.warning("tokens_travel_in_clear", host=host, fix="set api.tls_cert_file, or put a proxy with TLS in front")
