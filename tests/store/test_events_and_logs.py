"""Readers miss nothing: events under concurrent commits, log chunks sent twice."""

import asyncio

import pytest

from tests.builders import Ledger
from tests.store.conftest import Connect
from windlass.core.ids import AttemptId, JobId
from windlass.store import events, logs
from windlass.store.db import Conn
from windlass.store.events import Cursor

ADD = "INSERT INTO events (job_id, type) VALUES (%s, 'test')"


async def add(conn: Conn, name: str) -> None:
    await conn.execute(ADD, (name,))


async def test_a_slow_older_transaction_is_not_missed(ledger: Ledger, another: Connect) -> None:
    """It took its number first and commits last: until then what is younger waits too, for order's sake."""
    slow = await another()
    place = await events.now(ledger.conn)
    async with slow.transaction():
        await add(slow, "slow")
        await add(ledger.conn, "quick")
        assert await events.after(ledger.conn, place) == []
    rows = await events.after(ledger.conn, place)
    assert [row.job_id for row in rows] == ["slow", "quick"]
    await add(ledger.conn, "next")
    assert [row.job_id for row in await events.after(ledger.conn, rows[-1].cursor)] == ["next"]


async def test_a_reader_beside_writers_sees_each_event_once(ledger: Ledger, another: Connect) -> None:
    place = await events.now(ledger.conn)
    writers = [await another() for _ in range(4)]

    async def write(conn: Conn, name: int) -> None:
        for number in range(25):
            async with conn.transaction():
                await add(conn, f"{name}-{number}-a")
                await add(conn, f"{name}-{number}-b")

    writing = asyncio.gather(*(write(conn, name) for name, conn in enumerate(writers)))
    seen: list[str] = []
    while len(seen) < 200:
        done = writing.done()
        rows = await events.after(ledger.conn, place, limit=7)
        if rows:
            place = rows[-1].cursor
            seen += [row.job_id for row in rows]
        elif done:
            break
    await writing
    assert len(seen) == len(set(seen)) == 200
    for name in range(4):
        mine = [s for s in seen if s.startswith(f"{name}-")]
        assert mine == [f"{name}-{n}-{x}" for n in range(25) for x in "ab"]


async def test_transactions_are_in_the_order_of_their_numbers(ledger: Ledger) -> None:
    """Of numbers, not of letters: 99 comes before 100."""
    for txid in (100, 9, 99, 10):
        await ledger.conn.execute(
            "INSERT INTO events (txid, job_id, type) VALUES (%s::text::xid8, 'job', %s)", (str(txid), str(txid))
        )
    place, seen = Cursor("0", 0), []
    while rows := await events.after(ledger.conn, place, limit=1):
        place = rows[-1].cursor
        seen.append(rows[-1].type)
    assert seen == ["9", "10", "99", "100"]
    assert [row.type for row in await events.of_job(ledger.conn, JobId("job"))] == seen


async def test_a_cursor_survives_its_text(ledger: Ledger) -> None:
    await add(ledger.conn, "x")
    [row] = await events.after(ledger.conn, Cursor("0", 0))
    assert Cursor.parse(str(row.cursor)) == row.cursor
    assert await events.after(ledger.conn, await events.now(ledger.conn)) == []
    assert [r.job_id for r in await events.of_job(ledger.conn, JobId("x"))] == ["x"]


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "-1", "a-b", "1-2-3", "٣-1", "1" * 20 + "-1", " 1-1"])
def test_what_is_no_cursor_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.parse(text)


@pytest.fixture
async def attempt(ledger: Ledger) -> AttemptId:
    [job] = await ledger.submit()
    start = await ledger.place(job)
    assert start.attempt is not None
    return start.attempt.id


async def test_a_chunk_sent_twice_is_kept_once(ledger: Ledger, attempt: AttemptId) -> None:
    first = [logs.LogChunk(attempt, "stdout", 0, b"one\n"), logs.LogChunk(attempt, "stderr", 0, b"\xff\x00")]
    await logs.append(ledger.conn, first)
    await logs.append(ledger.conn, [*first, logs.LogChunk(attempt, "stdout", 4, b"", missing=10)])
    await logs.append(ledger.conn, [logs.LogChunk(attempt, "stdout", 14, b"two\n")])
    read = await logs.read(ledger.conn, attempt, 0)
    assert [(c.stream, c.start, c.data, c.missing) for c in read] == [
        ("stdout", 0, b"one\n", 0),
        ("stderr", 0, b"\xff\x00", 0),
        ("stdout", 4, b"", 10),
        ("stdout", 14, b"two\n", 0),
    ]
    assert await logs.read(ledger.conn, attempt, read[1].seq) == read[2:]
    assert await logs.read_back(ledger.conn, attempt, read[3].seq) == read[2::-1]
    assert await logs.stored(ledger.conn, attempt) == {"stdout": 18, "stderr": 2}


async def test_output_of_an_unknown_attempt_is_not_kept(ledger: Ledger) -> None:
    await logs.append(ledger.conn, [logs.LogChunk(AttemptId("att_unknown"), "stdout", 0, b"x")])
    assert await ledger.one("SELECT count(*) FROM log_chunks") == 0
