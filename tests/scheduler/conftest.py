"""A leader's desk over a real ledger and a real stream server, and nodes that are only what they say."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import structlog

from tests.builders import GIB, Ledger
from windlass.core.ids import AttemptId, JobId, NodeId
from windlass.core.states import Cause
from windlass.scheduler import dispatch, ingest
from windlass.scheduler.desk import Desk, Rules
from windlass.scheduler.watch import Watch
from windlass.store import nodes, shapes, tasks
from windlass.store.db import connect
from windlass.store.tasks import Live
from windlass.stream import wire
from windlass.stream.consume import GroupReader
from windlass.stream.keys import LEADER_GROUP, WORKER_GROUP, Keys
from windlass.stream.produce import Producer
from windlass.stream.produce import connect as connect_stream

KEYS = Keys("test")
N1, N2 = NodeId("node_one"), NodeId("node_two")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(processors=[structlog.testing.LogCapture()])


@dataclass
class Office:
    """What a test of the duties holds in its hands."""

    ledger: Ledger
    desk: Desk
    watch: Watch
    stack: AsyncExitStack
    redis_url: str
    readers: dict[NodeId, GroupReader[wire.Command]] = field(default_factory=dict)

    async def node(self, node_id: NodeId = N1, cpu: int = 4) -> NodeId:
        """A node introduces itself."""
        hello = wire.Hello(node_id, node_id, cpu * 1000, 8 * GIB, ("process",), "test")
        await self.watch.hear(self.desk, [hello])
        return node_id

    async def beat(self, node_id: NodeId, *attempts: AttemptId) -> None:
        """A node says it lives, and what it holds."""
        await self.watch.hear(self.desk, [wire.Beat(node_id, attempts)])

    async def place(self, job_id: JobId) -> AttemptId:
        """Place what waits; the attempt of this job."""
        self.desk.line.clear()
        await dispatch.run_once(self.desk)
        return await self.attempt(job_id)

    async def attempt(self, job_id: JobId) -> AttemptId:
        live = await self.ledger.task(job_id)
        assert live.attempt is not None
        return live.attempt.id

    async def report(self, *reports: ingest.AttemptReport) -> int:
        return await ingest.run_once(self.desk, reports)

    async def reload(self) -> None:
        """Begin anew, as after an election."""
        picture, conn = self.desk.picture, self.desk.conn
        picture.set_clock(await tasks.clock(conn))
        rows = await nodes.every(conn)
        live, others = await tasks.all_live(conn)
        picture.load([row.node for row in rows], live, await shapes.every(conn), others)

    async def orders(self, node_id: NodeId = N1) -> list[wire.Command]:
        """What the node was told since it last looked, all of it received."""
        await self.desk.flush()
        if node_id not in self.readers:
            redis = connect_stream(self.redis_url)
            self.stack.push_async_callback(redis.aclose)
            self.readers[node_id] = GroupReader(redis, KEYS.node(node_id), WORKER_GROUP, wire.commands())
        reader = self.readers[node_id]
        found: list[wire.Command] = []
        for _ in range(2):
            found += await reader.read(0.001)
            await self.desk.producer.send(read=reader.receipt())
        return found

    def consistent(self, live: list[Live]) -> None:
        """The picture says of live attempts what the ledger says."""
        picture = self.desk.picture
        assert {one.attempt.id for one in live if one.attempt} == set(picture.live)
        for one in live:
            assert one.attempt is not None
            known = picture.live[one.attempt.id]
            assert (known.task.version, known.attempt and known.attempt.state) == (one.task.version, one.attempt.state)

    async def check(self) -> None:
        """Whatever happened, the picture is true and the room reserved is what live attempts need."""
        live, _ = await tasks.all_live(self.ledger.conn)
        self.consistent(live)
        for row in await nodes.every(self.ledger.conn):
            used = self.desk.picture.used.get(row.node.id)
            assert used is None or used == row.node.used


def exited(attempt: AttemptId, node: NodeId = N1, cause: Cause | None = None, code: int = 0) -> wire.Exited:
    return wire.Exited(node, attempt, 0.0, cause, code, "", 0.1)


@pytest.fixture
async def office(database_url: str, redis_url: str) -> AsyncIterator[Office]:
    async with AsyncExitStack() as stack:
        made = await open_office(stack, database_url, redis_url)
        yield made
        await made.check()


async def open_office(stack: AsyncExitStack, database_url: str, redis_url: str, rules: Rules | None = None) -> Office:
    """A new leader, its picture read from the ledger."""
    conn, looking = await connect(database_url, "leader"), await connect(database_url, "test")
    writing, reading = connect_stream(redis_url), connect_stream(redis_url)
    for closing in (conn.close, looking.close, writing.aclose, reading.aclose):
        stack.push_async_callback(closing)
    ledger = Ledger(looking)
    await ledger.one("UPDATE leases SET expires_at = now() RETURNING 1")
    term = await ledger.lead(f"office {id(stack)}")
    reader = GroupReader(reading, KEYS.leader, LEADER_GROUP, wire.reports())
    desk = Desk(conn, Producer(writing, KEYS), reader, term, rules or Rules())
    made = Office(ledger, desk, Watch(), stack, redis_url)
    await made.reload()
    return made
