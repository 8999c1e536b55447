"""A worker process: the agent and the loops that feed it, until told to stop."""

import asyncio
import os
from collections.abc import Awaitable, Generator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from windlass.core.placement.snapshot import Room
from windlass.core.quantity import show_size
from windlass.core.states import Driver
from windlass.driver import base
from windlass.driver.base import EngineUnavailable, Facts
from windlass.driver.keeper import Keeper
from windlass.driver.keeper_sweep import sweep
from windlass.errors import SettingsError, WindlassError
from windlass.metrics import worker as metrics
from windlass.settings import Settings
from windlass.settings import Worker as WorkerSettings
from windlass.stream import wire
from windlass.stream.consume import GroupReader
from windlass.stream.keys import WORKER_GROUP, Keys
from windlass.stream.outage import Health, StreamDown
from windlass.stream.produce import Producer
from windlass.stream.produce import connect as connect_stream
from windlass.worker import clock
from windlass.worker.adopt import adopt
from windlass.worker.agent import Agent, Identity
from windlass.worker.exchange import Exchange
from windlass.worker.farewell import farewell, hangup
from windlass.worker.figures import figures
from windlass.worker.folders import held, node_of
from windlass.worker.join import Way, api_client, find_way, keep_access
from windlass.worker.journal import Journal
from windlass.worker.lease import Lease
from windlass.worker.logs import QUEUE_BYTES, Shipper
from windlass.worker.neighbours import Neighbours
from windlass.worker.reporter import Reporter
from windlass.worker.runner import Bench

log = structlog.get_logger("worker")

READ_S = 2.0
FACTS_S = 5.0
#: Seconds between comparisons of the processes held for running with those the watchdog keeps.
SWEEP_S = 5.0
#: Seconds between looks whether this node is cut off; with a stop's one second, within node_lost_s - self_fence_s.
FENCE_S = 1.0
#: Bytes that must be free in the data folder for new work: what runs needs some for its output and its end.
DISK_LEAST = 16 * 2**20
#: Files and folders that must still be possible there.
FILES_LEAST = 64


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """One worker process, until stop is set, or SIGHUP tells it to leave."""
    mine = settings.worker
    if mine.self_fence_s >= settings.scheduler.node_lost_s:
        raise SettingsError(
            f"worker.self_fence_s = {mine.self_fence_s:g} must be below scheduler.node_lost_s = "
            f"{settings.scheduler.node_lost_s:g}: give both to the worker, as the schedulers have them"
        )
    async with AsyncExitStack() as stack:
        with _usable(mine.data):
            settings = stack.enter_context(held(settings))
            mine = settings.worker
            node_id = node_of(mine.data)
        bind_contextvars(node=mine.name)
        way = await _found(find_way(settings, node_id), stop)
        if way is None:
            return
        settings = msgspec.structs.replace(settings, cluster=way.cluster)
        me = Identity(node_id, mine.name, Room(round(mine.cpu * 1000), mine.memory), mine.labels)
        with _usable(mine.data):
            lease = Lease(mine.data, mine.self_fence_s)
            stack.callback(lease.close)
            journal = Journal(mine.data / "journal.jsonl")
            stack.callback(journal.close)
        keeper = Keeper(mine.data, me.id, mine.self_fence_s, first=lambda: lease.contact(clock.now()))
        stack.push_async_callback(keeper.close)
        drivers = _drivers(settings, me, keeper)
        keys = Keys(settings.cluster)
        writing, reading = (connect_stream(way.redis_url, way.login) for _ in range(2))
        stack.push_async_callback(writing.aclose)
        stack.push_async_callback(reading.aclose)
        http = await stack.enter_async_context(api_client(settings, way.token))
        health = Health()
        producer = Producer(writing, keys, health)
        reporter = Reporter(producer, me.id, lease.contact)
        bench = Bench(journal, reporter, Shipper(http, mine.log_cap_bytes), mine.data / "attempts", lease)
        agent = Agent(me, bench, drivers)
        reader = GroupReader(reading, keys.node(me.id), WORKER_GROUP, wire.commands(), health)
        stack.callback(producer.close)
        stack.callback(reader.close)
        exchange = Exchange(agent, http, lambda: reader.down, mine.heartbeat_s, lease.contact)
        metrics.FIGURES.source = lambda: figures(agent, lambda: exchange.on, lambda: lease.age_s)
        stack.callback(setattr, metrics.FIGURES, "source", None)
        if way.login:
            access = asyncio.create_task(keep_access(http, mine.data, health))
            stack.callback(access.cancel)
        await keeper.hold()
        sweeping = asyncio.create_task(_sweep(keeper))
        stack.callback(sweeping.cancel)
        with hangup(stop) as leave:
            await _run(agent, reader, exchange, Neighbours(mine, keeper), mine, stop, leave)
        for driver in drivers.values():
            await driver.close()


async def _run(
    agent: Agent,
    reader: GroupReader[wire.Command],
    exchange: Exchange,
    neighbours: Neighbours,
    mine: WorkerSettings,
    stop: asyncio.Event,
    leave: asyncio.Event,
) -> None:
    bench = agent.bench
    async with asyncio.TaskGroup() as group:
        await _look(agent)
        bench.reporter.say(agent.hello())
        log.info("worker_ready", node_id=agent.me.id, drivers=sorted(agent.node().drivers))
        intake = group.create_task(_obey(agent, reader, bench))
        loops = [
            group.create_task(bench.reporter.run()),
            group.create_task(bench.shipper.run()),
            group.create_task(exchange.run()),
            group.create_task(_beat(agent, mine.heartbeat_s)),
            group.create_task(_watch_drivers(agent)),
            group.create_task(_fence(agent)),
            group.create_task(neighbours.run()),
        ]
        await stop.wait()
        await farewell(agent, mine, leave)
        intake.cancel()
        await agent.leave()
        await bench.reporter.flush()
        for loop in loops:
            loop.cancel()


async def _found(way: Awaitable[Way], stop: asyncio.Event) -> Way | None:
    """The way to the others once it is found, which may take as long as the API is away; None when stopped before."""
    finding, stopping = asyncio.ensure_future(way), asyncio.create_task(stop.wait())
    await asyncio.wait((finding, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not finding.done():
        finding.cancel()
        return None
    return finding.result()


@contextmanager
def _usable(folder: Path) -> Generator[None]:
    """What the disk refuses is told as such. Raises WindlassError."""
    try:
        yield
    except OSError as error:
        raise WindlassError(f"worker.data {str(folder)!r} can't be used: {error}") from error


def _drivers(settings: Settings, me: Identity, keeper: Keeper) -> Mapping[Driver, base.Driver]:
    mine = settings.worker
    drivers: dict[Driver, base.Driver] = {}
    for name in mine.drivers:
        match Driver(name):
            case Driver.DOCKER:
                from windlass.driver.docker import DockerDriver
                from windlass.driver.docker_profile import Profile

                drivers[Driver.DOCKER] = DockerDriver(
                    guard=keeper.guard,
                    cluster=settings.cluster,
                    node_id=me.id,
                    profile=Profile(mine.profile),
                    volumes_allowed=mine.volumes_allowed,
                    url=mine.docker_url or None,
                )
            case Driver.KUBERNETES:
                drivers[Driver.KUBERNETES] = _kubernetes(settings, me)
            case Driver.MOCK:
                from windlass.driver.mock import MockDriver

                drivers[Driver.MOCK] = MockDriver(mine.data / "mock")
            case Driver.PROCESS:
                pass
    if mine.allow_process:
        from windlass.driver.process import ProcessDriver

        # What is held back at most before it is stored: half the cap, and what waits for the API.
        kept = mine.log_cap_bytes + 2 * QUEUE_BYTES
        drivers[Driver.PROCESS] = ProcessDriver(mine.data / "slots", me.id, keeper, kept)
    return drivers


def _kubernetes(settings: Settings, me: Identity) -> base.Driver:
    from windlass.driver.docker_profile import Profile
    from windlass.driver.kubernetes import KubernetesDriver
    from windlass.driver.kubernetes_access import find

    mine = settings.worker
    access = find(
        config=mine.kubernetes_config,
        url=mine.kubernetes_url,
        namespace=mine.kubernetes_namespace,
        token_file=mine.kubernetes_token_file,
        ca_file=mine.kubernetes_ca_file,
    )
    return KubernetesDriver(
        access, cluster=settings.cluster, node_id=me.id, profile=Profile(mine.profile), room=me.capacity
    )


async def _look(agent: Agent) -> bool:
    """See which drivers can work now and how much there is to give away, and adopt what is found where one has just
    come up. Whether that changed."""
    before = agent.node().drivers, agent.capacity
    lease = agent.bench.lease
    agent.full = _full(agent.bench.folder) or (lease.fault if lease is not None else "")
    for name, driver in agent.drivers.items():
        was = agent.facts.get(name)
        try:
            if was is None or not was.available:
                await driver.open()
            facts = await driver.facts()
            if facts.available and (was is None or not was.available):
                await adopt(agent, name, driver)
        except EngineUnavailable as error:
            facts = Facts(False, str(error))
        agent.facts[name] = facts
    return (agent.node().drivers, agent.capacity) != before


def _full(folder: Path) -> str:
    """Why no attempt should begin on this disk; empty when it has room."""
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < DISK_LEAST:
        return f"has a full disk: {show_size(free)} left in worker.data"
    if disk.f_files and disk.f_favail < FILES_LEAST:
        return f"has a full disk: {disk.f_favail} files can still be made in worker.data"
    return ""


async def _watch_drivers(agent: Agent) -> None:
    while True:
        await asyncio.sleep(FACTS_S)
        if await _look(agent):
            log.warning("node_changed", drivers=sorted(agent.node().drivers), capacity=str(agent.capacity))
            agent.bench.reporter.say(agent.hello())


async def _fence(agent: Agent) -> None:
    while not all(driver.watched for driver in agent.drivers.values()):
        await asyncio.sleep(FENCE_S)
        agent.fence()


async def _sweep(keeper: Keeper) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await sweep(keeper)


async def _obey(agent: Agent, reader: GroupReader[wire.Command], bench: Bench) -> None:
    while True:
        try:
            commands = await reader.read(READ_S)
            if commands:
                agent.obey(commands)
                bench.reporter.receipt(reader.receipt())
        except StreamDown:
            pass  # told by its line, which also makes the next read wait; the exchange stands in


async def _beat(agent: Agent, every_s: float) -> None:
    while True:
        agent.bench.reporter.say(agent.beat())
        agent.remind(older_than_s=2 * every_s)
        await asyncio.sleep(every_s)
