"""Output on its way: capped exactly, each byte once, whatever the API does meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.api.serving import Api, serving, settings_for
from tests.ports import reserved_port
from tests.support import HANG_S, wait_until
from tests.worker.site import a_launch, base_of
from windlass.core.ids import AttemptId
from windlass.driver.base import Chunk, Ticket
from windlass.driver.mock import MockDriver
from windlass.worker import logs
from windlass.worker.logs import Cap, Shipper
from windlass.worker.runner import ticket_of


def chunks_of(text: bytes, cuts: list[int], start: int = 0) -> list[Chunk]:
    """The text cut at these places, from byte `start` on."""
    places = sorted({start, len(text), *(c for c in cuts if start < c < len(text))})
    return [Chunk("stdout", a, text[a:b]) for a, b in pairwise(places)]


def kept(limit: int, chunks: list[Chunk], base: int = 0) -> tuple[list[Chunk], tuple[int, int] | None, list[Chunk]]:
    cap = Cap("stdout", limit, base)
    sent: list[Chunk] = []
    for chunk in chunks:
        sent += cap.take(chunk)
        assert len(cap.tail) <= limit - limit // 2, "memory is bounded"
    gap, rest = cap.close()
    return sent, gap, rest


@given(size=st.integers(0, 60), limit=st.integers(0, 40), cuts=st.lists(st.integers(0, 60)))
@example(size=10, limit=0, cuts=[])
@example(size=10, limit=1, cuts=[5])
@example(size=40, limit=40, cuts=[])
def test_what_is_kept_is_head_gap_and_tail(size: int, limit: int, cuts: list[int]):
    text = bytes(range(size))
    sent, gap, rest = kept(limit, chunks_of(text, cuts))
    head, tail = limit // 2, limit - limit // 2
    assert b"".join(c.data for c in sent) == text[:head]
    if size <= limit:
        assert gap is None
        assert b"".join(c.data for c in sent + rest) == text
    else:
        assert gap == (head, size - limit)
        assert b"".join(c.data for c in rest) == text[size - tail :]
    assert all(c.data for c in sent + rest), "no empty chunk takes a full one's place"
    place = 0
    for chunk in [*sent, *([Chunk("stdout", gap[0], b"")] if gap else []), *rest]:
        assert chunk.offset == place
        place += gap[1] if gap and not chunk.data else len(chunk.data)


@given(size=st.integers(1, 60), limit=st.integers(2, 40), cuts=st.lists(st.integers(0, 60)), base=st.integers(0, 60))
def test_a_new_agent_goes_on_where_the_old_one_stopped(size: int, limit: int, cuts: list[int], base: int):
    """What the old one has sent is at most the head while the attempt runs; the new one's tail ends with the end."""
    text = bytes(range(size))
    base = min(base, size, limit // 2)
    sent, gap, rest = kept(limit, chunks_of(text, cuts, base), base)
    whole = text[:base] + b"".join(c.data for c in sent)
    assert whole == text[: limit // 2]
    missing = gap[1] if gap else 0
    assert len(whole) + missing + sum(len(c.data) for c in rest) == size
    assert text.endswith(b"".join(c.data for c in rest))


class Printing(MockDriver):
    """Prints these chunks; whoever asks from an offset gets the rest."""

    def __init__(self, root: Path, chunks: list[Chunk]) -> None:
        super().__init__(root)
        self.chunks = chunks
        self.read = 0

    async def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        for chunk in self.chunks:
            skip = max(0, after.get(chunk.stream, 0) - chunk.offset)
            if skip < len(chunk.data):
                self.read += len(chunk.data) - skip
                yield Chunk(chunk.stream, chunk.offset + skip, chunk.data[skip:])


async def a_ticket(api: Api, folder: Path) -> Ticket:
    """Of an attempt the ledger knows."""
    attempt = await api.start(await api.submit())
    return ticket_of(a_launch(attempt), folder)


async def stored(api: Api, attempt: AttemptId, stream: str = "stdout") -> bytes:
    statement = "SELECT string_agg(data, '' ORDER BY start) FROM log_chunks WHERE attempt_id = %s AND stream = %s"
    return bytes(await api.ledger.one(statement, attempt, stream) or b"")


async def test_all_of_it_is_in_the_store_when_shipping_returns(api: Api, tmp_path: Path):
    ticket = await a_ticket(api, tmp_path)
    text = bytes(range(256)) * 4096
    driver = Printing(tmp_path, [*chunks_of(text, list(range(0, len(text), 50_001))), Chunk("stderr", 0, b"err")])
    async with httpx2.AsyncClient(base_url=base_of(api)) as http:
        shipper = Shipper(http, 10 * 2**20)
        running = asyncio.create_task(shipper.run())
        await shipper.ship(driver, ticket, resume=False)
        assert await stored(api, ticket.attempt_id) == text
        assert await stored(api, ticket.attempt_id, "stderr") == b"err"
        running.cancel()


async def test_past_the_cap_head_gap_and_tail_are_stored(api: Api, tmp_path: Path):
    ticket = await a_ticket(api, tmp_path)
    text = b"".join(b"%07d\n" % i for i in range(5000))
    async with httpx2.AsyncClient(base_url=base_of(api)) as http:
        shipper = Shipper(http, 8000)
        running = asyncio.create_task(shipper.run())
        await shipper.ship(Printing(tmp_path, chunks_of(text, list(range(0, 40_000, 777)))), ticket, resume=False)
        running.cancel()
    assert await stored(api, ticket.attempt_id) == text[:4000] + text[-4000:]
    missing = await api.ledger.one("SELECT sum(missing) FROM log_chunks WHERE attempt_id = %s", ticket.attempt_id)
    assert missing == len(text) - 8000


async def test_a_new_agent_ships_only_what_is_missing(api: Api, tmp_path: Path):
    ticket = await a_ticket(api, tmp_path)
    text = b"".join(b"%07d\n" % i for i in range(1000))
    await api.write(ticket.attempt_id, text[:3000])
    driver = Printing(tmp_path, chunks_of(text, list(range(0, 8000, 999))))
    async with httpx2.AsyncClient(base_url=base_of(api)) as http:
        shipper = Shipper(http, 10 * 2**20)
        running = asyncio.create_task(shipper.run())
        await shipper.ship(driver, ticket, resume=True)
        running.cancel()
    assert driver.read == len(text) - 3000
    assert await stored(api, ticket.attempt_id) == text


async def test_nothing_is_lost_or_doubled_while_the_api_is_away(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "QUEUE_BYTES", 300_000)
    monkeypatch.setattr(logs, "BATCH_BYTES", 100_000)
    chosen = settings_for(database_url, redis_url)
    chosen = replace(chosen, api=replace(chosen.api, port=reserved_port()))
    text = bytes(range(256)) * 8192
    driver = Printing(tmp_path, chunks_of(text, list(range(0, len(text), 20_000))))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{chosen.api.port}", timeout=HANG_S) as http:
        shipper = Shipper(http, 10 * 2**20)
        running = asyncio.create_task(shipper.run())
        async with serving(chosen) as api:
            ticket = await a_ticket(api, tmp_path)
        shipping = asyncio.create_task(shipper.ship(driver, ticket, resume=False))
        await wait_until(lambda: driver.read > 250_000, "the queue fills")
        await asyncio.sleep(0.2)  # longer than the first tries
        assert driver.read < 500_000, "the reader is held back: what waits is bounded"
        assert not shipping.done()
        async with serving(chosen) as api:
            await wait_until(lambda: driver.read > 1_000_000, "it flows again")
        async with serving(chosen) as api:
            await asyncio.wait_for(shipping, HANG_S)
            assert await stored(api, ticket.attempt_id) == text
        running.cancel()


async def test_attempts_do_not_wait_for_each_others_readers(api: Api, tmp_path: Path):
    tickets = [await a_ticket(api, tmp_path) for _ in range(5)]
    text = b"x" * 300_000
    async with httpx2.AsyncClient(base_url=base_of(api)) as http:
        shipper = Shipper(http, 10 * 2**20)
        running = asyncio.create_task(shipper.run())
        driver = Printing(tmp_path, chunks_of(text, list(range(0, len(text), 60_000))))
        await asyncio.gather(*(shipper.ship(driver, ticket, resume=False) for ticket in tickets))
        running.cancel()
    for ticket in tickets:
        assert await stored(api, ticket.attempt_id) == text


async def test_what_the_api_refuses_does_not_stop_the_rest(api: Api, tmp_path: Path):
    good = await a_ticket(api, tmp_path)
    bad = ticket_of(a_launch(AttemptId("not an id")), tmp_path)
    async with httpx2.AsyncClient(base_url=base_of(api)) as http:
        shipper = Shipper(http, 10 * 2**20)
        running = asyncio.create_task(shipper.run())
        await shipper.ship(Printing(tmp_path, [Chunk("stdout", 0, b"lost")]), bad, resume=False)
        await shipper.ship(Printing(tmp_path, [Chunk("stdout", 0, b"kept")]), good, resume=False)
        running.cancel()
    assert await stored(api, good.attempt_id) == b"kept"
