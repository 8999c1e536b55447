"""Readers that hang up, readers that don't read, and a server that ends: none of them may hold anything for long."""

import asyncio
import socket
import tracemalloc

from tests.api.serving import Api, serving, settings_for
from tests.builders import a_node
from tests.conftest import Servers
from tests.ports import reserved_port
from tests.support import HANG_S, wait_until
from windlass.api.app import serve
from windlass.store.migrate import migrate


async def knock(api: Api, path: str, accept: str = "text/event-stream") -> socket.socket:
    """A connection with a request sent and nothing read, its receive buffer small."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plug, ("127.0.0.1", api.port))
    await loop.sock_sendall(plug, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
    return plug


def borrowed(api: Api) -> int:
    """Connections to the ledger that somebody holds."""
    return api.services.pool.borrowed


async def settled() -> int:
    """Bytes held once they have not changed for a while: nothing more can be sent to anyone."""
    seen: list[int] = []

    def steady() -> bool:
        seen.append(tracemalloc.get_traced_memory()[0])
        last = seen[-20:]
        return len(last) == 20 and max(last) - min(last) < 2**18 and seen[-1] > 2**20

    await wait_until(steady, "the readers are full")
    return seen[-1]


async def test_who_hangs_up_is_forgotten(api: Api):
    job_id = await api.submit()
    await api.start(job_id)
    paths = ["/v1/events", f"/v1/jobs/{job_id}/logs?follow=true", f"/v1/jobs/{job_id}?wait=60"]
    plugs = [await knock(api, path) for path in paths * 10]
    # a reader of events listens for one thing, of logs for three, one that waits for one
    await wait_until(lambda: api.listeners == 10 * (1 + 3 + 1), "all of them listen")
    for plug in plugs:
        plug.close()
    await wait_until(lambda: api.listeners <= 10, "streams of those who hung up are over")
    await wait_until(lambda: borrowed(api) == 0, "no connection is held")
    assert await asyncio.wait_for(api.job(job_id), HANG_S)


async def test_readers_that_do_not_read_hold_little(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    piece = b"x" * 2**16
    for i in range(5):
        await api.write(attempt, *[piece] * 32, start=i * 32 * 2**16)
    readers = 8
    plugs: list[socket.socket] = []
    tracemalloc.start()
    try:
        for i in range(readers):
            plugs.append(await knock(api, f"/v1/jobs/{job_id}/logs?follow={i % 2}", "text/plain"))
        held = await settled()
    finally:
        tracemalloc.stop()
        for plug in plugs:
            plug.close()
    assert held / readers < 1.2 * 2**20, f"{held / readers / 2**20:.2f} MiB per reader"
    assert borrowed(api) == 0
    assert (await api.http.get("/readyz")).status_code == 200
    await wait_until(lambda: api.listeners == 0, "streams of those who hung up are over")


async def test_many_readers_share_few_connections_to_the_ledger(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    plugs = [await knock(api, f"/v1/jobs/{job_id}/logs?follow=true") for _ in range(50)]
    await wait_until(lambda: api.listeners == 150, "all of them listen")
    await api.write(attempt, b"x")
    assert await asyncio.wait_for(api.job(job_id), HANG_S)
    for plug in plugs:
        plug.close()
    await wait_until(lambda: api.listeners == 0, "they are forgotten")


async def test_a_server_that_ends_ends_its_streams(database_url: str, redis_url: str):
    settings = settings_for(database_url, redis_url, port=reserved_port())
    stop = asyncio.Event()
    server = asyncio.create_task(serve(settings, stop))

    async def connected() -> asyncio.StreamReader | None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", settings.api.port)
        except OSError:
            return None
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writers.append(writer)
        return reader

    writers: list[asyncio.StreamWriter] = []
    reader = await wait_until(connected, "the server listens")
    await reader.readuntil(b": windlass events")
    stop.set()
    await asyncio.wait_for(server, HANG_S)
    assert (await reader.read()).endswith(b"0\r\n\r\n"), "the stream ended in good order"
    for writer in writers:
        writer.close()


async def test_a_second_server_serves_the_same_jobs(api: Api, redis_url: str):
    job_id = await api.submit()
    async with serving(settings_for(api.services.pool.conninfo, redis_url)) as other:
        waiting = asyncio.create_task(other.http.get(f"/v1/jobs/{job_id}?wait=20"))
        await wait_until(lambda: other.listeners == 1, "the request waits")
        await api.http.post(f"/v1/jobs/{job_id}/cancel")
        assert (await asyncio.wait_for(waiting, HANG_S)).json()["state"] == "cancelled"


async def test_a_server_over_an_empty_database_serves_once_it_is_migrated(servers: Servers, redis_url: str):
    servers.execute("CREATE DATABASE empty_at_first")
    try:
        settings = settings_for(servers.url_of("empty_at_first"), redis_url)
        async with serving(settings) as early:
            await wait_until(lambda: borrowed(early) == 0, "it has looked for nodes in vain")
            answer = await early.http.get("/v1/jobs")
            assert answer.status_code == 503
            assert "windlass migrate" in answer.json()["detail"]
            await migrate(settings.database.url)
            await early.register(a_node("n1"))
            await early.submit()
            await wait_until(lambda: early.services.nodes, "it has looked again")
    finally:
        servers.execute("DROP DATABASE empty_at_first WITH (FORCE)")
