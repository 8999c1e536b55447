"""The application, and the API process around it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from socket import socket
from typing import Any

import structlog
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi

from windlass import __version__
from windlass.api import (
    access,
    answers,
    audit,
    cluster,
    events,
    health,
    internal,
    jobs,
    join,
    logs,
    manual,
    nodes,
    problems,
    scaling,
    submit,
    tls,
    tokens,
)
from windlass.api.deps import Services
from windlass.api.door import Door
from windlass.api.edge import Edge
from windlass.api.hub import Hub
from windlass.api.intake import Intake
from windlass.api.keyring import Keyring, token_files
from windlass.core.states import Driver
from windlass.errors import Unavailable
from windlass.metrics import api as metrics
from windlass.metrics.catalogue import Figure
from windlass.settings import Settings
from windlass.store import audit as audit_store
from windlass.store.db import Pool, borrow, make_pool, meet
from windlass.stream import wire
from windlass.stream.access import Doorkeeper
from windlass.stream.consume import NewsReader
from windlass.stream.keys import Keys
from windlass.stream.outage import Health, StreamDown
from windlass.stream.produce import Producer
from windlass.stream.produce import connect as connect_stream

log = structlog.get_logger("api")

NODES_EVERY_S = 2.0
RING_S = 0.5
AUDIT_EVERY_S = 60.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def make_app(settings: Settings) -> FastAPI:
    """The application; its means are made when it starts and let go when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with _means(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="Windlass",
        version=__version__,
        summary="A job scheduler for containers.",
        lifespan=lifespan,
        docs_url=None,  # a page of our own, in `manual`
        redoc_url=None,
        dependencies=[Depends(access.guard)],
    )
    problems.install(app)
    for router in (
        submit.router,
        jobs.router,
        logs.router,
        events.router,
        nodes.router,
        cluster.router,
        scaling.router,
        tokens.router,
        audit.router,
        internal.router,
        join.router,
    ):
        app.include_router(router)
    app.include_router(health.router)
    app.include_router(manual.router)
    loopback = settings.api.host in LOOPBACK
    app.add_middleware(Edge, hosts=LOOPBACK if loopback else None)
    app.openapi = lambda: describe(app)
    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the job's spec from the table that checks it, and failures as problems."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schemas: dict[str, Any] = document["components"]["schemas"]
        schemas |= submit.COMPONENTS | answers.COMPONENTS
        # FastAPI's own form of a 422, which `problems` never lets out
        for operation in [o for path in document["paths"].values() for o in path.values()]:
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        access.describe(document)
        app.openapi_schema = document
    return app.openapi_schema


@asynccontextmanager
async def _means(settings: Settings) -> AsyncGenerator[Services]:
    ledger = settings.database
    pool = make_pool(ledger.url, "api", ledger.pool_max, pooled=ledger.pooled)
    keys = Keys(settings.cluster)
    writing, reading = connect_stream(settings.redis.url), connect_stream(settings.redis.url)
    health = Health()
    producer = Producer(writing, keys, health)
    news = NewsReader(reading, keys.news, wire.news(), health)
    hub = Hub(news)
    metrics.POOL.source = lambda: pool_figures(pool)
    metrics.LISTENERS.set_function(lambda: hub.listeners)
    keyring, doorkeeper = Keyring(pool, settings.api), Doorkeeper(writing, keys)
    services = Services(
        pool, producer, hub, Intake(pool, producer), health, keyring, doorkeeper,
        anonymous=settings.api.allow_anonymous,
        containers=Driver(settings.api.container_driver),
        cluster=settings.cluster,
        worker_redis_url=settings.redis.worker_url or join.without_login(settings.redis.url),
    )  # fmt: skip
    lives = (hub.run(), services.intake.run(), keyring.run(), doorkeeper.run(), _keep_nodes(services),
        _keep_ringing(producer), _keep_audit(services, settings.api.audit_keep_days))  # fmt: skip
    loops = [asyncio.create_task(life) for life in lives]
    try:
        yield services
    finally:
        metrics.POOL.source = None
        hub.close()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        producer.close()
        news.close()
        await asyncio.gather(pool.close(), writing.aclose(), reading.aclose(), return_exceptions=True)


def pool_figures(pool: Pool) -> Iterator[Figure]:
    """The connections to PostgreSQL, now."""
    yield metrics.POOL_SIZE, (), pool.size
    yield metrics.POOL_USED, (), pool.borrowed
    yield metrics.POOL_TIMEOUTS, (), pool.turned_away


async def _keep_nodes(services: Services) -> None:
    """The nodes for the submit check, a moment old."""
    while True:
        try:
            await services.renew_nodes(asyncio.get_running_loop().time())
        except Unavailable:
            pass  # each request says so itself
        except Exception:
            log.exception("nodes_not_read")
        await asyncio.sleep(NODES_EVERY_S)


async def _keep_audit(services: Services, days: float) -> None:
    """Records of changes, no longer than they are wanted."""
    while days:
        await asyncio.sleep(AUDIT_EVERY_S)
        with suppress(Unavailable):
            async with borrow(services.pool) as conn:
                await audit_store.forget(conn, days)


async def _keep_ringing(producer: Producer) -> None:
    """While the stream takes nothing, try it now and then, for its end is known by a send that worked."""
    while True:
        await asyncio.sleep(RING_S)
        if producer.down:
            with suppress(StreamDown):
                await producer.send(news=[wire.Happened()])


def make_server(app: FastAPI, settings: Settings) -> "_Server":
    """The HTTP server around the application, not yet listening."""
    config = uvicorn.Config(
        app,
        host=settings.api.host,
        port=settings.api.port,
        http=Door,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=65,  # longer than proxies and clients keep theirs, so that they close first
        ssl_certfile=settings.api.tls_cert_file or None,
        ssl_keyfile=settings.api.tls_key_file or None,
        lifespan="on",
        backlog=1024,
    )
    return _Server(config)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """One API process, until stop is set."""
    tls.check(settings.api)
    token_files(settings.api)
    await meet(settings.database.url, "api", pooled=settings.database.pooled)
    app = make_app(settings)
    server = make_server(app, settings)
    server.config.load()
    running, renewing = (
        asyncio.create_task(server.serve()),
        asyncio.create_task(tls.renew(server.config.ssl, settings.api)),
    )
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        app.state.services.hub.close()  # streams end first, or the server would wait for them
        server.should_exit = True
    for watch in (stopping, renewing):
        watch.cancel()
    await running


class _Server(uvicorn.Server):
    """A server that leaves signals to the process around it, and reports in its log where it listens."""

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in self.sockets():
            log.info("api_listening", address="{}:{}".format(*listening.getsockname()))

    def sockets(self) -> list[socket]:
        """Return the sockets the server listens on; with port 0 they know the port."""
        return [one for server in getattr(self, "servers", ()) for one in server.sockets]
