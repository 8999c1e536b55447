"""A node's parts as `serve` puts them together, held by a test: real stream, real API for output."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec

from tests.api.serving import Api
from tests.support import HANG_S, wait_until
from windlass.core.ids import ATTEMPT, JOB, NODE, AttemptId, JobId, NodeId
from windlass.core.placement.snapshot import Room
from windlass.core.spec import JobSpec, Resources
from windlass.core.states import Cause, Driver
from windlass.driver import base
from windlass.driver.base import Facts
from windlass.driver.mock import MockDriver
from windlass.mint import new_id
from windlass.stream import wire
from windlass.stream.consume import GroupReader
from windlass.stream.keys import LEADER_GROUP, Keys
from windlass.stream.produce import Producer, StreamDown, connect
from windlass.worker.agent import Agent, Identity
from windlass.worker.journal import Journal
from windlass.worker.logs import Shipper
from windlass.worker.reporter import Reporter
from windlass.worker.runner import Bench

KEYS = Keys("test")
NOWHERE = "http://127.0.0.1:9"
R = TypeVar("R", bound=wire.Message)


def a_launch(attempt_id: AttemptId | None = None, fence: int = 1, number: int = 1, **fields: Any) -> wire.Launch:
    """An order to play an attempt; keywords are the spec's, `env` what the mock driver plays."""
    deadline_in = fields.pop("deadline_in", None)
    plain: dict[str, Any] = {"driver": Driver.MOCK, "resources": Resources(cpu=0.1, memory=2**20), "stop_grace": 0.1}
    spec = JobSpec(**plain | fields)
    return wire.Launch(attempt_id or AttemptId(new_id(ATTEMPT)), fence, number, JobId(new_id(JOB)), spec, deadline_in)


def raw(launch: wire.Launch) -> wire.LaunchRaw:
    """The same as the scheduler sends it."""
    spec = msgspec.Raw(msgspec.json.encode(launch.spec))
    return wire.LaunchRaw(launch.attempt_id, launch.fence, launch.number, launch.job_id, spec, launch.deadline_in)


def a_stop(launch: wire.Launch, cause: Cause = Cause.CANCELLED, message: str = "asked to") -> wire.Stop:
    return wire.Stop(launch.attempt_id, launch.fence, cause, message)


def base_of(api: Api) -> str:
    """Where a worker finds it."""
    return f"http://127.0.0.1:{api.port}"


class Leader:
    """Reads what nodes report, and orders."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url)
        self._reader = GroupReader(self._redis, KEYS.leader, LEADER_GROUP, wire.reports())
        self.producer = Producer(self._redis, KEYS)
        self.heard: list[wire.Report] = []

    async def listen(self) -> Sequence[wire.Report]:
        """All that was ever heard."""
        with suppress(StreamDown):
            self.heard += await self._reader.read(0.02)
            await self.producer.send(read=self._reader.receipt())
        return self.heard

    async def hears(self, kind: type[R], attempt_id: AttemptId | None = None, count: int = 1) -> R:
        """The last of so many reports of this kind."""

        async def found() -> list[R]:
            known = [r for r in await self.listen() if isinstance(r, kind)]
            mine = [r for r in known if attempt_id is None or getattr(r, "attempt_id", None) == attempt_id]
            return mine if len(mine) >= count else []

        return (await wait_until(found, f"{count} of {kind.__name__}; heard {self.heard}"))[-1]

    async def order(self, node_id: NodeId, *commands: wire.Command) -> None:
        sent = [raw(c) if isinstance(c, wire.Launch) else c for c in commands]
        await self.producer.send(commands={node_id: sent})

    async def close(self) -> None:
        await self._redis.aclose()


@dataclass
class Site:
    """One agent at work."""

    agent: Agent
    leader: Leader
    folder: Path

    @property
    def journal(self) -> Journal:
        return self.agent.bench.journal

    def obey(self, *commands: wire.Command) -> None:
        self.agent.obey(commands)

    async def exited(self, launch: wire.Launch) -> wire.Exited:
        return await self.leader.hears(wire.Exited, launch.attempt_id)

    async def idle(self) -> None:
        await wait_until(lambda: not self.agent.runs and not self.agent._tasks, "nothing runs")


@asynccontextmanager
async def at_work(
    folder: Path,
    redis_url: str,
    api_url: str = NOWHERE,
    drivers: Mapping[Driver, base.Driver] | None = None,
    cap_bytes: int = 10 * 2**20,
) -> AsyncIterator[Site]:
    """An agent of 4 cores on this folder; on the way out it lets go of what runs."""
    async with AsyncExitStack() as stack:
        leader = Leader(redis_url)
        stack.push_async_callback(leader.close)
        writing = connect(redis_url)
        stack.push_async_callback(writing.aclose)
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=api_url, timeout=HANG_S))
        me = Identity(NodeId(new_id(NODE)), "n1", Room(4000, 2**30))
        journal = Journal(folder / "journal.jsonl")
        stack.callback(journal.close)
        reporter = Reporter(Producer(writing, KEYS), me.id)
        bench = Bench(journal, reporter, Shipper(http, cap_bytes), folder / "attempts")
        drivers = drivers or {Driver.MOCK: MockDriver(folder / "mock")}
        agent = Agent(me, bench, drivers)
        for name, driver in drivers.items():
            await driver.open()
            stack.push_async_callback(driver.close)
            agent.facts[name] = Facts(True)
        loops = [asyncio.create_task(bench.reporter.run()), asyncio.create_task(bench.shipper.run())]
        try:
            yield Site(agent, leader, folder)
        finally:
            await agent.leave()
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
