"""The belt: what is read stays until its receipt, a vanished group heals, nothing forged stops a reader."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support import HANG_S, wait_until
from windlass.core.ids import AttemptId, JobId, NodeId
from windlass.core.states import Cause
from windlass.embedded.folder import DataFolder
from windlass.embedded.valkey import Valkey
from windlass.stream import wire
from windlass.stream.consume import GroupReader, NewsReader
from windlass.stream.keys import FIELD, LEADER_GROUP, NEWS_LENGTH, WORKER_GROUP, Keys
from windlass.stream.produce import Producer, StreamDown, connect

KEYS = Keys("test")
NODE = NodeId("node_1")
ATT = AttemptId("att_1")

Connect = Callable[[], Redis]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Connect]:
    """Opens one more connection to the stream server."""
    async with AsyncExitStack() as stack:

        def opened() -> Redis:
            redis = connect(redis_url)
            stack.push_async_callback(redis.aclose)
            return redis

        yield opened


def leader(client: Connect) -> GroupReader[wire.Report]:
    return GroupReader(client(), KEYS.leader, LEADER_GROUP, wire.reports())


async def read(reader: GroupReader[wire.Report] | GroupReader[wire.Command]) -> list:
    """What is there; the first look may have to make the group."""
    return await reader.read(0.01) or await reader.read(0.01)


def bells(*names: str) -> list[wire.Report]:
    return [wire.Bell(name) for name in names]


async def test_what_a_frozen_reader_took_is_found_again(client: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated seed 1252: a former leader, frozen while it read, was handed an entry; nobody looked for it."""
    frozen, reader = leader(client), leader(client)
    await read(frozen)
    await read(reader)
    await Producer(client(), KEYS).report(bells("a"))
    assert await read(frozen) == bells("a")
    assert await read(reader) == []
    monkeypatch.setattr("windlass.stream.consume.LOOK_AGAIN_S", 0.0)
    assert await read(reader) == bells("a")


async def test_an_answer_that_was_lost_on_its_way_is_asked_for_again(client: Connect) -> None:
    """Simulated seed 32: what it told of had been handed out, and stayed pending for as long as its reader lived."""
    redis = client()
    reader = GroupReader(redis, KEYS.leader, LEADER_GROUP, wire.reports())
    assert await read(reader) == []
    await Producer(client(), KEYS).report(bells("a"))
    ask = redis.execute_command

    async def lost(*command: object) -> None:
        await ask(*command)
        raise RedisConnectionError("Connection closed by server.")

    redis.execute_command = lost
    with pytest.raises(StreamDown):
        await reader.read(0.01)
    redis.execute_command = ask
    assert await reader.read(5) == bells("a"), "as soon as the line is open again"
    await Producer(client(), KEYS).send(read=reader.receipt())
    pending = await client().xpending(KEYS.leader, LEADER_GROUP)
    assert pending["pending"] == 0


async def test_what_was_sent_before_the_first_reader_is_read(client: Connect) -> None:
    await Producer(client(), KEYS).report(bells("a", "b"))
    reader = leader(client)
    assert await read(reader) == bells("a", "b")
    assert reader.recreated == 1
    assert await read(reader) == []


async def test_the_next_reader_inherits_what_has_no_receipt(client: Connect) -> None:
    producer, first = Producer(client(), KEYS), leader(client)
    await producer.report(bells("done"))
    assert await read(first) == bells("done")
    await producer.send(read=first.receipt())
    await producer.report(bells("half"))
    assert await read(first) == bells("half")
    await producer.report(bells("new"))
    second = leader(client)
    assert await second.read(0.01) == bells("half")
    assert await second.read(0.01) == bells("new")
    await producer.send(read=second.receipt())
    assert await read(leader(client)) == []
    assert await client().xlen(KEYS.leader) == 0, "what has its receipt is not kept"


async def test_a_long_inheritance_is_read_in_portions(client: Connect) -> None:
    producer, first = Producer(client(), KEYS), leader(client)
    for number in range(10):
        await producer.report(bells(str(number)))
    await read(first)
    second = leader(client)
    found = [bell.what for _ in range(6) for bell in await second.read(0.01, count=3) if isinstance(bell, wire.Bell)]
    assert found == [str(n) for n in range(10)]


@pytest.mark.parametrize("wipe", ["flushall", "delete", "destroy"])
async def test_a_group_that_vanished_is_made_again(client: Connect, wipe: str) -> None:
    producer, reader, redis = Producer(client(), KEYS), leader(client), client()
    await producer.report(bells("before"))
    assert await read(reader) == bells("before")
    if wipe == "flushall":
        await redis.flushall()
    elif wipe == "delete":
        await redis.delete(KEYS.leader)
    else:
        await redis.xgroup_destroy(KEYS.leader, LEADER_GROUP)
    await producer.report(bells("after"))
    assert (await read(reader))[-1:] == bells("after")
    assert reader.recreated == 2
    await producer.send(read=reader.receipt())
    assert await read(reader) == []


async def test_a_key_of_another_kind_is_told(client: Connect) -> None:
    await client().set(KEYS.leader, "not a stream")
    with pytest.raises(StreamDown, match="refuses"):
        await read(leader(client))
    with pytest.raises(StreamDown, match="refuses"):
        await Producer(client(), KEYS).report(bells("x"))


_DEEP = b"[" * 50_000 + b"]" * 50_000
_HELLO = b'"type": "hello", "node_id": "n", "name": "n", "millis": 1, "memory": 1, "drivers": [], "version": ""'
FORGED = [
    {FIELD: b"[" + _DEEP + b"]"},
    {FIELD: b"[{" + _HELLO + b', "facts": {"a": ' + _DEEP + b"}}]"},
    {b"other": b"field"},
    {FIELD: b"not json"},
    {FIELD: b"\xff\xfe"},
    {FIELD: b"{}"},
    {FIELD: b"[1, null, []]"},
    {FIELD: b'[{"type": "unknown"}]'},
    {FIELD: b'[{"type": "beat"}]'},
    {FIELD: b'[{"type": "exited", "node_id": "n", "attempt_id": "a", "cause": "no such cause"}]'},
    {FIELD: b'[{"type": "started", "node_id": "n", "attempt_id": "a", "ago": "long"}]'},
    {FIELD: b'[{"type": "started", "node_id": "n", "attempt_id": "a", "ago": 1e300}]'},
    {FIELD: b'[{"type": "exited", "node_id": "n", "attempt_id": "a", "exit_code": 2147483648}]'},
    {FIELD: b'[{"type": "exited", "node_id": "n", "attempt_id": "a", "started_ago": -1e300}]'},
    {
        FIELD: b'[{"type": "hello", "node_id": "n", "name": "n", "millis": 2147483648, "memory": 1, "drivers": [],'
        b' "version": ""}]'
    },
    {
        FIELD: b'[{"type": "hello", "node_id": "%s", "name": "n", "millis": 1, "memory": 1, "drivers": [],'
        b' "version": ""}]' % (b"n" * 5000)
    },
]


async def test_forged_entries_are_skipped_and_counted(client: Connect) -> None:
    redis, reader = client(), wire.reports()
    group = GroupReader(client(), KEYS.leader, LEADER_GROUP, reader)
    for fields in FORGED:
        await redis.xadd(KEYS.leader, fields)  # pyright: ignore
    mixed = b'[{"type": "later"}, {"type": "bell", "what": "jobs", "new_field": 1}, 3]'
    await redis.xadd(KEYS.leader, {FIELD: mixed})
    assert await read(group) == bells("jobs")
    assert reader.skipped == len(FORGED) - 1 + 2 + 2
    await Producer(client(), KEYS).send(read=group.receipt())
    assert await redis.xlen(KEYS.leader) == 0


async def test_all_messages_survive_the_way(client: Connect) -> None:
    reports: list[wire.Report] = [
        wire.Hello(NODE, "n1", 4000, 2**30, ("process",), "0.1", {"disk": "ssd"}, {"kernel": "x"}),
        wire.Beat(NODE, (ATT,)),
        wire.Prepared(NODE, ATT),
        wire.Started(NODE, ATT, 1.5),
        wire.Exited(NODE, ATT, 0.1, Cause.SIGNAL, 9, "killed", 3.0),
        wire.Refused(NODE, ATT, "full"),
        wire.Bell("jobs"),
    ]
    orders: list[wire.CommandOut] = [
        wire.Stop(ATT, 3, Cause.TIMEOUT, "late"),
        wire.Forget((ATT,)),
        wire.Introduce(),
    ]
    news: list[wire.News] = [wire.Ended((JobId("job_1"),)), wire.Output((ATT,)), wire.Happened()]
    papers = NewsReader(client(), KEYS.news, wire.news())
    assert await papers.read(0.01) == []
    await Producer(client(), KEYS).send(reports=reports, commands={NODE: orders}, news=news)
    assert await read(leader(client)) == reports
    assert await read(GroupReader(client(), KEYS.node(NODE), WORKER_GROUP, wire.commands())) == orders
    assert await papers.read(0.01) == news


def test_text_that_no_database_takes_does_not_pass() -> None:
    """A worker's message may hold anything; PostgreSQL's text holds no NUL."""
    refused = wire.Refused(NODE, ATT, "a\0\0b \\u0000 \\\0c")
    [read_back] = wire.reports().read([wire.encode([refused])])
    assert read_back == wire.Refused(NODE, ATT, "ab \\u0000 \\c")


async def test_news_begin_with_now_and_are_capped(client: Connect) -> None:
    producer = Producer(client(), KEYS)
    await producer.send(news=[wire.Happened()])
    reader = NewsReader(client(), KEYS.news, wire.news())
    assert await reader.read(0.01) == []
    await producer.send(news=[wire.Ended((JobId("job_2"),))])
    assert await reader.read(0.01) == [wire.Ended((JobId("job_2"),))]
    pipe = client().pipeline(transaction=False)
    for _ in range(NEWS_LENGTH + 500):
        pipe.xadd(KEYS.news, {FIELD: b"[]"}, maxlen=NEWS_LENGTH, approximate=True)
    await pipe.execute()
    assert await client().xlen(KEYS.news) <= NEWS_LENGTH + 200


async def test_news_go_on_after_everything_was_lost(client: Connect) -> None:
    producer = Producer(client(), KEYS)
    reader = NewsReader(client(), KEYS.news, wire.news())
    await producer.send(news=[wire.Happened()])
    await reader.read(0.01)
    await client().flushall()
    await producer.send(news=[wire.Happened()])
    assert await reader.read(0.01) == [wire.Happened()]


async def test_nothing_to_send_is_no_round_trip(client: Connect) -> None:
    redis = client()
    await Producer(redis, KEYS).send()
    assert await redis.exists(KEYS.leader, KEYS.news) == 0


async def test_a_reader_that_is_cancelled_ends(client: Connect) -> None:
    """At whatever moment: the library under it may swallow a cancellation."""
    producer = Producer(client(), KEYS)

    async def read_on(reader: GroupReader[wire.Report]) -> None:
        while True:
            await reader.read(0.001)
            await producer.report(bells("x"))
            await producer.send(read=reader.receipt())

    for number in range(80):
        task = asyncio.create_task(read_on(leader(client)))
        await asyncio.wait([task], timeout=number * 0.0001)
        task.cancel()
        ended, _ = await asyncio.wait([task], timeout=HANG_S)
        assert ended, "the cancellation was lost"


async def test_a_server_that_is_gone_is_told_and_found_again(roomy_folder: Path) -> None:
    home = Path(tempfile.mkdtemp(dir=roomy_folder))
    home.chmod(0o711)
    with DataFolder(home) as folder:
        server = Valkey(folder)
        url = await server.start()
        writing, reading, listening = connect(url), connect(url), connect(url)
        try:
            producer = Producer(writing, KEYS)
            reader = GroupReader(reading, KEYS.leader, LEADER_GROUP, wire.reports())
            papers = NewsReader(listening, KEYS.news, wire.news())
            await producer.report(bells("a"))
            assert await read(reader) == bells("a")
            await server.stop()
            with pytest.raises(StreamDown):
                await reader.read(0.01)
            with pytest.raises(StreamDown):
                await papers.read(0.01)
            with pytest.raises(StreamDown):
                await producer.report(bells("lost"))
            assert await server.start() == url
            await producer.opened(5)
            await producer.report(bells("b"))
            assert await reader.read(5) == []
            assert await reader.read(5) == bells("b")
            assert (producer.down, reader.down) == (False, False)

            async def serves() -> bool:
                try:
                    return await papers.read(0.2) == []
                except StreamDown:
                    return False

            await wait_until(serves, "news can be read")
        finally:
            await server.stop()
            for redis in (writing, reading, listening):
                await redis.aclose()
