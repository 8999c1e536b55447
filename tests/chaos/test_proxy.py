"""The proxy that misbehaves: each kind of weather does to a connection what it says, and nothing after it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Servers
from tests.support import HANG_S, wait_until
from windlass.chaos.postgres_ear import PostgresEar
from windlass.chaos.proxy import DROP, DROP_DOWN, DROP_UP, HOLD, PASS, REFUSE, Proxy, Weather

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A server that says everything back, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.ends = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                self.heard += piece
                writer.write(piece)
                await writer.drain()
        self.ends += 1
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()) as proxy:
        yield echo, proxy


@asynccontextmanager
async def calling(proxy: Proxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def said(line: Streams, words: bytes, within: float = HANG_S) -> bytes:
    """What comes back for these words."""
    line[1].write(words)
    return await asyncio.wait_for(line[0].readexactly(len(words)), within)


async def nothing(line: Streams, words: bytes) -> None:
    with pytest.raises(TimeoutError):
        await said(line, words, 0.2)


async def test_it_passes_everything_and_both_ends(echo: tuple[Echo, Proxy]):
    server, proxy = echo
    async with calling(proxy) as line:
        assert await said(line, b"x" * 300_000) == b"x" * 300_000
        line[1].write_eof()
        assert await asyncio.wait_for(line[0].read(), HANG_S) == b""
    await wait_until(lambda: server.ends == 1 and proxy.links == 0, "both sides have ended")


async def test_refused_and_let_in_again_on_the_same_port(echo: tuple[Echo, Proxy]):
    _, proxy = echo
    async with calling(proxy) as line:
        await said(line, b"hello")
        await proxy.change(REFUSE)
        with pytest.raises((ConnectionError, EOFError)):
            await said(line, b"again")
        with pytest.raises(ConnectionRefusedError):
            async with calling(proxy):
                pass
    await proxy.change(PASS)
    async with calling(proxy) as line:
        assert await said(line, b"hello") == b"hello"


@pytest.mark.parametrize(("weather", "reached"), [(DROP, False), (DROP_UP, False), (DROP_DOWN, True)])
async def test_dropped_bytes_are_gone_and_the_connection_stays_half_open(echo, weather: Weather, reached: bool):
    server, proxy = echo
    async with calling(proxy) as old:
        await said(old, b"one")
        await proxy.change(weather)
        await nothing(old, b"two")
        await wait_until(lambda: server.heard == (b"onetwo" if reached else b"one"), "what got through")
        await proxy.change(PASS)
        await nothing(old, b"three")
        async with calling(proxy) as fresh:
            assert await said(fresh, b"four") == b"four"
        assert not old[0].at_eof()


async def test_what_was_held_is_delivered(echo: tuple[Echo, Proxy]):
    server, proxy = echo
    async with calling(proxy) as line:
        await proxy.change(HOLD)
        await nothing(line, b"one")
        assert server.heard == b""
        await proxy.change(PASS)
        assert await asyncio.wait_for(line[0].readexactly(3), HANG_S) == b"one"


async def test_late_and_slow(echo: tuple[Echo, Proxy]):
    _, proxy = echo
    async with calling(proxy) as line:
        await proxy.change(Weather(delay_s=0.1))
        began = time.monotonic()
        await said(line, b"one")
        assert time.monotonic() - began >= 0.2
        await proxy.change(Weather(rate=10_000))
        began = time.monotonic()
        await said(line, b"x" * 4000)
        assert time.monotonic() - began >= 0.4


async def test_cut_in_the_middle(echo: tuple[Echo, Proxy]):
    _, proxy = echo
    async with calling(proxy) as line:
        await proxy.change(Weather(reset_after=1000))
        assert await said(line, b"x" * 1000) == b"x" * 1000
        with pytest.raises(ConnectionResetError):
            await said(line, b"y")


async def test_an_answer_of_any_protocol_is_lost(echo: tuple[Echo, Proxy]):
    server, proxy = echo
    async with calling(proxy) as line:
        lost = proxy.lose_answer("write", nth=2)
        assert await said(line, b"write 1") == b"write 1"
        assert await said(line, b"read 1") == b"read 1"
        with pytest.raises(ConnectionResetError):
            await said(line, b"write 2")
    assert lost.is_set()
    assert server.heard.endswith(b"write 2")


async def test_a_commit_whose_answer_is_lost_has_happened(database_url: str, servers: Servers):
    """On a Unix socket in front of a Unix socket; the statement is prepared, so its text comes only once."""
    where = psycopg.conninfo.conninfo_to_dict(database_url)
    target = Path(str(where["host"])) / ".s.PGSQL.5432"
    async with Proxy(target, ear=PostgresEar) as proxy:
        url = psycopg.conninfo.make_conninfo(database_url, host="127.0.0.1", port=proxy.port)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0) as conn:
            await conn.execute("CREATE TABLE seen (n int)")
            lost = proxy.lose_answer("INSERT INTO seen", nth=3)
            for n in (1, 2):
                await conn.execute("INSERT INTO seen VALUES (%s)", (n,))
            with pytest.raises(psycopg.OperationalError):
                await conn.execute("INSERT INTO seen VALUES (%s)", (3,))
        assert lost.is_set()
        async with await psycopg.AsyncConnection.connect(url) as conn:
            assert await (await conn.execute("SELECT n FROM seen ORDER BY n")).fetchall() == [(1,), (2,), (3,)]
