"""Outages as the log, the gauge and callers see them; entries that kill whoever reads them."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import structlog
from redis.asyncio import Redis
from structlog.testing import LogCapture

from tests.support import wait_until
from windlass import metrics
from windlass.chaos.proxy import DROP, DROP_DOWN, PASS, Proxy
from windlass.core.ids import NodeId
from windlass.stream import wire
from windlass.stream.consume import DELIVERIES, GroupReader
from windlass.stream.keys import LEADER_GROUP, NODE_TTL_S, Keys
from windlass.stream.outage import Health, StreamDown
from windlass.stream.produce import Producer, connect

KEYS = Keys("test")


@pytest.fixture
def told() -> list[dict]:
    """What is logged from now on."""
    capture = LogCapture()
    structlog.configure(processors=[capture])
    return capture.entries  # pyright: ignore


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Redis]:
    redis = connect(redis_url)
    yield redis
    await redis.config_set("maxmemory", 0)
    await redis.aclose()


def socket_of(redis_url: str) -> Path:
    return Path(unquote(urlsplit(redis_url).path))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_two_lines(told: list[dict]) -> None:
    clock = Clock()
    health, one, other = Health(clock), object(), object()
    for _ in range(50):
        health.failed(one, "away")
        health.failed(other, "away")
        clock.now += 0.2
    assert health.degraded_s == pytest.approx(10)
    health.served(one)
    assert health.degraded_s is not None, "the other line is still down"
    health.served(other)
    assert health.degraded_s is None
    assert [entry["event"] for entry in told] == ["redis_degraded", "redis_back"]
    assert (told[1]["outage_s"], told[1]["failures"]) == (pytest.approx(10), 100)


def test_a_line_that_is_closed_is_no_sign_that_redis_is_back(told: list[dict]) -> None:
    clock = Clock()
    health, one, other = Health(clock), object(), object()
    health.failed(one, "away")
    clock.now += 20
    health.closed(one)
    assert ([entry["event"] for entry in told], health.degraded_s) == (["redis_degraded"], None)
    health.served(other)
    assert [entry["event"] for entry in told] == ["redis_degraded", "redis_back"]


def test_a_line_that_flaps_writes_at_most_one_line_a_second(told: list[dict]) -> None:
    clock = Clock()
    health, line = Health(clock), object()
    for _ in range(1000):
        health.failed(line, "away")
        health.served(line)
        health.noted("groups_made_again")
        clock.now += 0.01
    assert len(told) <= 11
    clock.now += 5
    health.served(line)
    clock.now += 5
    health.served(line)
    begun = sum(entry["event"] == "redis_degraded" for entry in told)
    assert begun == sum(entry["event"] == "redis_back" for entry in told), "every outage told has its end told"
    assert sum(entry.get("groups_made_again", 0) for entry in told) == 1000, "nothing goes uncounted"


async def test_a_refusal_is_an_outage_until_a_call_succeeds(server: Redis, redis_url: str, told: list[dict]) -> None:
    redis = connect(redis_url)
    producer = Producer(redis, KEYS)
    await server.config_set("maxmemory", 1)
    with pytest.raises(StreamDown, match="OutOfMemory"):
        await producer.report([wire.Bell("jobs")])
    assert metrics.REDIS_DEGRADED._value.get() == 1
    for _ in range(100):
        with pytest.raises(StreamDown):  # at once, with nothing asked of the server
            await producer.report([wire.Bell("jobs")])
    calls = (await server.info("commandstats"))["cmdstat_xadd"]["rejected_calls"]
    assert calls <= 5
    await producer.opened(2)
    assert producer.down, "that the server answers is not enough"
    await server.config_set("maxmemory", 0)

    async def sent() -> bool:
        try:
            await producer.report([wire.Bell("jobs")])
        except StreamDown:
            return False
        return True

    await wait_until(sent, "it takes messages again")
    assert (producer.down, metrics.REDIS_DEGRADED._value.get()) == (False, 0)
    producer.close()
    await redis.aclose()


async def test_a_password_that_no_longer_counts_is_an_outage_too(server: Redis, redis_url: str) -> None:
    redis = connect(redis_url)
    producer, reader = Producer(redis, KEYS), GroupReader(redis, KEYS.leader, LEADER_GROUP, wire.reports())
    await server.config_set("requirepass", "new")
    try:
        with pytest.raises(StreamDown, match=r"(?i)authenticat"):
            await producer.report([wire.Bell("jobs")])
        with pytest.raises(StreamDown, match=r"(?i)authenticat"):
            await reader.read(0.01)
    finally:
        await server.config_set("requirepass", "")
    await producer.opened(5)
    await producer.report([wire.Bell("jobs")])
    producer.close()
    reader.close()
    await redis.aclose()


async def test_a_server_that_hangs_costs_one_wait(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Proxy(socket_of(redis_url)) as proxy:
        redis = connect(f"redis://127.0.0.1:{proxy.port}/0")
        producer = Producer(redis, KEYS)
        await producer.report([wire.Bell("jobs")])
        await proxy.change(DROP)
        waits: list[Exception] = []
        fails = producer._line._failed
        monkeypatch.setattr(producer._line, "_failed", lambda error: (waits.append(error), fails(error)))
        for _ in range(20):
            with pytest.raises(StreamDown):
                await producer.report([wire.Bell("jobs")])
        assert len(waits) == 1, "the others were told at once"
        await proxy.change(PASS)
        await wait_until(lambda: producer._line._mending and producer._line._mending.done(), "it answers again")
        await producer.report([wire.Bell("jobs")])
        producer.close()
        await redis.aclose()


async def test_a_nodes_stream_goes_by_itself(server: Redis) -> None:
    producer, node = Producer(server, KEYS), NodeId("node_gone")
    await producer.send(commands={node: [wire.Introduce()]}, reports=[wire.Bell("jobs")])
    assert 0 < await server.ttl(KEYS.node(node)) <= NODE_TTL_S
    assert await server.ttl(KEYS.leader) == -1


async def test_an_entry_that_kills_its_readers_is_parked(server: Redis, told: list[dict]) -> None:
    """And those read with it are not: under suspicion each is read alone."""
    producer = Producer(server, KEYS)
    names = ["before", "poison", *(f"after{n}" for n in range(5))]
    for name in names:
        await producer.report([wire.Bell(name)])
    done: list[str] = []
    before = metrics.REPAIRS.labels(kind=metrics.POISON_ENTRY)._value.get()
    for _ in range(4 * DELIVERIES):
        reader = GroupReader(server, KEYS.leader, LEADER_GROUP, wire.reports())
        died = False
        while not died and len(done) < len(names) - 1:
            bells = [report.what for report in await reader.read(0.01) if isinstance(report, wire.Bell)]
            died = "poison" in bells
            if not died:
                done += bells
                await producer.send(read=reader.receipt())
        if not died:
            break
    assert sorted(done) == sorted(name for name in names if name != "poison")
    assert [entry["event"] for entry in told] == ["entry_parked"]
    assert metrics.REPAIRS.labels(kind=metrics.POISON_ENTRY)._value.get() == before + 1
    assert await server.xlen(KEYS.leader) == 0
    pending = await server.xpending(KEYS.leader, LEADER_GROUP)
    assert pending["pending"] == 0


async def test_what_a_broken_connection_swallowed_is_read_again(server: Redis, redis_url: str) -> None:
    """The server has handed it out, and it never arrived."""
    async with Proxy(socket_of(redis_url)) as proxy:
        redis = connect(f"redis://127.0.0.1:{proxy.port}/0")
        reader = GroupReader(redis, KEYS.leader, LEADER_GROUP, wire.reports())
        await reader.read(0.01)
        await reader.read(0.01)
        await proxy.change(DROP_DOWN)
        await Producer(server, KEYS).report([wire.Bell("swallowed")])
        with pytest.raises(StreamDown):
            await reader.read(0.01)
        assert (await server.xpending(KEYS.leader, LEADER_GROUP))["pending"] == 1
        await proxy.change(PASS)
        found: list[wire.Report] = []

        async def heard() -> bool:
            with suppress(StreamDown):
                found.extend(await reader.read(0.05))
            return bool(found)

        await wait_until(heard, "it is read")
        assert found == [wire.Bell("swallowed")]
        reader.close()
        await redis.aclose()
