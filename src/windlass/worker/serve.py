"""A worker process: the agent and the loops that feed it, until told to stop."""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from windlass.core.ids import NODE, NodeId, is_id
from windlass.core.placement.snapshot import Room
from windlass.core.quantity import show_size
from windlass.core.states import Driver
from windlass.driver import base
from windlass.driver.base import EngineUnavailable, Facts
from windlass.driver.keeper import Keeper
from windlass.errors import SettingsError
from windlass.http import HttpClient
from windlass.mint import new_id
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
from windlass.worker.journal import Journal
from windlass.worker.lease import Lease
from windlass.worker.logs import QUEUE_BYTES, Shipper
from windlass.worker.reporter import Reporter
from windlass.worker.runner import Bench

log = structlog.get_logger("worker")

READ_S = 2.0
FACTS_S = 5.0
#: Bytes that must be free in the data folder for new work: what runs needs some for its output and its end.
DISK_LEAST = 16 * 2**20


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """One worker process, until stop is set, or SIGHUP tells it to leave."""
    mine = settings.worker
    if mine.self_fence_s >= settings.scheduler.node_lost_s:
        raise SettingsError(
            f"worker.self_fence_s = {mine.self_fence_s:g} must be below scheduler.node_lost_s = "
            f"{settings.scheduler.node_lost_s:g}: give both to the worker, as the schedulers have them"
        )
    mine.data.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        stack.callback(os.close, _lock(mine.data))
        me = Identity(_node_id(mine.data), mine.name, Room(round(mine.cpu * 1000), mine.memory), mine.labels)
        lease = Lease(mine.data, mine.self_fence_s)
        stack.callback(lease.close)
        keeper = Keeper(mine.data, me.id, mine.self_fence_s, first=lambda: lease.contact(clock.now()))
        stack.push_async_callback(keeper.close)
        drivers = _drivers(settings, me, keeper)
        keys = Keys(settings.cluster)
        writing, reading = connect_stream(settings.redis.url), connect_stream(settings.redis.url)
        stack.push_async_callback(writing.aclose)
        stack.push_async_callback(reading.aclose)
        http = await stack.enter_async_context(HttpClient(base_url=settings.api.url, timeout=30.0))
        journal = Journal(mine.data / "journal.jsonl")
        stack.callback(journal.close)
        health = Health()
        producer = Producer(writing, keys, health)
        reporter = Reporter(producer, me.id, lease.contact)
        bench = Bench(journal, reporter, Shipper(http, mine.log_cap_bytes), mine.data / "attempts", lease)
        agent = Agent(me, bench, drivers)
        reader = GroupReader(reading, keys.node(me.id), WORKER_GROUP, wire.commands(), health)
        stack.callback(producer.close)
        stack.callback(reader.close)
        exchange = Exchange(agent, http, lambda: reader.down, mine.heartbeat_s, lease.contact)
        await keeper.hold()
        with hangup(stop) as leave:
            await _run(agent, reader, exchange, mine, stop, leave)
        for driver in drivers.values():
            await driver.close()


async def _run(
    agent: Agent,
    reader: GroupReader[wire.Command],
    exchange: Exchange,
    mine: WorkerSettings,
    stop: asyncio.Event,
    leave: asyncio.Event,
) -> None:
    bench = agent.bench
    async with asyncio.TaskGroup() as group:
        await _look(agent)
        bench.reporter.say(agent.hello())
        log.info("worker_ready", node_id=agent.me.id, node=agent.me.name, drivers=sorted(agent.node().drivers))
        intake = group.create_task(_obey(agent, reader, bench))
        loops = [
            group.create_task(bench.reporter.run()),
            group.create_task(bench.shipper.run()),
            group.create_task(exchange.run()),
            group.create_task(_beat(agent, mine.heartbeat_s)),
            group.create_task(_watch_drivers(agent)),
        ]
        await stop.wait()
        await farewell(agent, mine, leave)
        intake.cancel()
        await agent.leave()
        await bench.reporter.flush()
        for loop in loops:
            loop.cancel()


def _lock(folder: Path) -> int:
    """The data folder is one agent's at a time."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise SettingsError(
            f"another worker uses worker.data {str(folder)!r}; give this one a folder of its own"
        ) from None
    return fd


def _node_id(folder: Path) -> NodeId:
    """The node's identity, made once and kept in its data folder."""
    path = folder / "node_id"
    known = path.read_text().strip() if path.exists() else ""
    if not is_id(known, NODE):
        known = new_id(NODE)
        path.write_text(known + "\n")
    return NodeId(known)


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


async def _look(agent: Agent) -> bool:
    """See which drivers can work now, and adopt what is found where one has just come up. Whether that changed."""
    before = agent.node().drivers
    agent.full = _full(agent.bench.folder)
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
    return agent.node().drivers != before


def _full(folder: Path) -> str:
    """Why no attempt should begin on this disk; empty when it has room."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return "" if free >= DISK_LEAST else f"has a full disk: {show_size(free)} left in worker.data"


async def _watch_drivers(agent: Agent) -> None:
    while True:
        await asyncio.sleep(FACTS_S)
        if await _look(agent):
            log.warning("drivers_changed", drivers=sorted(agent.node().drivers))
            agent.bench.reporter.say(agent.hello())


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
