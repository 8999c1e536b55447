"""The whole cycle over real servers, with a node that is only what it says: losses, forgeries, a new term."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import redis

from tests.builders import GIB, Ledger, a_spec
from tests.scheduler.conftest import KEYS, N1
from tests.support import wait_until
from windlass.core.ids import JobId
from windlass.core.states import TaskState
from windlass.errors import Fenced
from windlass.metrics import scheduler as metrics
from windlass.scheduler.desk import Rules
from windlass.scheduler.elect import Elector, Terms
from windlass.scheduler.leader import reign
from windlass.scheduler.presence import Presence
from windlass.store import leases
from windlass.store.db import connect
from windlass.stream import wire
from windlass.stream.consume import GroupReader
from windlass.stream.keys import FIELD, WORKER_GROUP
from windlass.stream.produce import Producer, StreamDown
from windlass.stream.produce import connect as connect_stream


@dataclass
class Stage:
    """A ledger, a reign over it, and the node's end of the streams."""

    ledger: Ledger
    database_url: str
    redis_url: str
    producer: Producer
    orders: GroupReader[wire.Command]
    reigns: list["asyncio.Task[None]"]

    async def begin(self) -> "asyncio.Task[None]":
        """A new leader's reign."""
        await self.ledger.one("UPDATE leases SET expires_at = now() RETURNING 1")
        term = await self.ledger.lead(f"leader {len(self.reigns)}")
        made = asyncio.create_task(reign(self.database_url, self.redis_url, KEYS, term, Rules()))
        self.reigns.append(made)
        return made

    async def hello(self, cpu: int = 4) -> None:
        await self.producer.report([wire.Hello(N1, "n1", cpu * 1000, GIB, ("process",), "test")])

    async def work(self, *, until: list[JobId]) -> None:
        """Take every order and report each launch done, twice over, until these jobs have ended."""

        async def worked() -> bool:
            try:
                orders = await self.orders.read(0.01)
                ends: list[wire.Report] = [
                    wire.Exited(N1, o.attempt_id, started_ago=0.0) for o in orders if isinstance(o, wire.Launch)
                ]
                if any(isinstance(o, wire.Introduce) for o in orders):
                    await self.hello()
                await self.producer.send(reports=[*ends, *ends, wire.Beat(N1)], read=self.orders.receipt())
            except StreamDown:
                return False
            return await self.state(*until) == {TaskState.SUCCEEDED}

        await wait_until(worked, "the end of the jobs")

    async def state(self, *jobs: JobId) -> set[TaskState]:
        return {(await self.ledger.task(job)).task.state for job in jobs}


@pytest.fixture
async def stage(database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        conn = await connect(database_url, "test")
        writing, reading = connect_stream(redis_url), connect_stream(redis_url)
        for closing in (conn.close, writing.aclose, reading.aclose):
            stack.push_async_callback(closing)
        orders = GroupReader(reading, KEYS.node(N1), WORKER_GROUP, wire.commands())
        made = Stage(Ledger(conn), database_url, redis_url, Producer(writing, KEYS), orders, [])
        await made.begin()
        yield made
        for task in made.reigns:
            task.cancel()
        await asyncio.gather(*made.reigns, return_exceptions=True)


async def test_jobs_go_round(stage: Stage) -> None:
    await stage.hello()
    made = await stage.ledger.submit(*[a_spec()] * 40)
    await stage.producer.report([wire.Bell("jobs")])
    await stage.work(until=made)
    outcomes = "SELECT count(*) FROM events WHERE type = 'job.succeeded'"
    assert await stage.ledger.one(outcomes) == 40
    assert await stage.ledger.one("SELECT count(*) FROM attempts") == 40
    await wait_until(lambda: empty(stage.ledger), "an empty outbox")


async def empty(ledger: Ledger) -> bool:
    return await ledger.one("SELECT count(*) FROM outbox") == 0


async def test_everything_in_the_streams_may_vanish(stage: Stage) -> None:
    """No bell is heard, orders and reports are lost: the sweep finds them all."""
    await stage.hello()
    made = await stage.ledger.submit(*[a_spec()] * 12)
    await stage.producer.report([wire.Bell("jobs")])
    await wait_until(lambda: some_active(stage, made), "the first placements")
    with redis.Redis.from_url(stage.redis_url) as client:
        client.flushall()
    await stage.work(until=made)


async def some_active(stage: Stage, made: list[JobId]) -> bool:
    return TaskState.ACTIVE in await stage.state(*made)


async def test_a_heir_goes_on_where_the_last_one_stopped(stage: Stage) -> None:
    """Killed between anything and anything: what was read and not yet written is read again."""
    await stage.hello()
    made = await stage.ledger.submit(*[a_spec()] * 12)
    await stage.producer.report([wire.Bell("jobs")])
    await wait_until(lambda: some_active(stage, made), "the first placements")
    stage.reigns[-1].cancel()
    await asyncio.gather(stage.reigns[-1], return_exceptions=True)
    await stage.begin()
    await stage.work(until=made)
    assert await stage.ledger.one("SELECT count(*) FROM attempts WHERE state = 'succeeded'") == 12


async def test_a_deposed_leader_stops(stage: Stage) -> None:
    first = stage.reigns[-1]
    await stage.hello()
    await leases.expire(stage.ledger.conn, 1)
    await stage.begin()
    made = await stage.ledger.submit(*[a_spec()] * 4)
    await stage.work(until=made)
    [late] = await stage.ledger.submit()
    await stage.work(until=[late])
    if first.done():
        assert isinstance(first.exception(), Fenced)
    fences = await stage.ledger.one("SELECT array_agg(DISTINCT fence) FROM attempts WHERE fence = 1")
    assert fences is None, "nothing was placed under the old term"


async def test_forged_messages_do_not_stop_the_leader(stage: Stage) -> None:
    with redis.Redis.from_url(stage.redis_url) as client:
        for forged in (
            b"not json",
            b'[{"type": "hello", "node_id": "x\\u0000", "name": "\\u0000", "millis": 1, "memory": 1, "drivers": [],'
            b' "version": "\\u0000", "facts": {"a": "\\u0000"}}]',
            b'[{"type": "exited", "node_id": "a", "attempt_id": "b", "ago": 1e308}]',
            b'[{"type": "exited", "node_id": "a", "attempt_id": "\\u0000b", "exit_code": 99999999999}]',
            b'[{"type": "beat", "node_id": "\\u0000", "attempts": ["\\u0000"]}]',
        ):
            client.xadd(KEYS.leader, {FIELD: forged})
    await stage.hello()
    made = await stage.ledger.submit()
    await stage.work(until=made)
    assert not stage.reigns[-1].done()


async def test_a_leader_that_was_deposed_unawares_moves_nothing_and_is_counted(stage: Stage) -> None:
    """It has no reason yet to look at its lease: its next write tells it."""
    (first,) = stage.reigns
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await stage.ledger.one("UPDATE leases SET expires_at = now() RETURNING 1")
    terms: list[int] = []

    async def lead(term: int) -> None:
        terms.append(term)
        await reign(stage.database_url, stage.redis_url, KEYS, term, Rules())

    stop, presence = asyncio.Event(), Presence()
    elector = Elector(stage.database_url, presence, Terms(ttl_s=60, renew_s=50, standby_s=0.05), lead)
    running = asyncio.create_task(elector.run(stop))
    await stage.hello()
    known = "SELECT heartbeat_at FROM nodes"
    await wait_until(lambda: stage.ledger.one(known), "the node is known")
    before = metrics.FENCED_WRITES._value.get()  # pyright: ignore
    async with stage.ledger.conn.transaction():
        await leases.expire(stage.ledger.conn, terms[0])
        assert await leases.take(stage.ledger.conn, "usurper", 60) == terms[0] + 1
        beat = await stage.ledger.one(known)
    (job,) = await stage.ledger.submit(a_spec())
    await stage.producer.report([wire.Bell("jobs"), wire.Beat(N1)])
    await wait_until(lambda: elector.term is None, "the end of its term")
    assert metrics.FENCED_WRITES._value.get() == before + 1  # pyright: ignore
    assert await stage.state(job) == {TaskState.QUEUED}
    assert await stage.ledger.one("SELECT count(*) FROM attempts") == 0
    assert await stage.ledger.one(known) == beat
    assert terms == [terms[0]]
    stop.set()
    await running
