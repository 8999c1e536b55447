"""Migrations: any number of processes at once, each step once, none edited."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from windlass.errors import Unavailable
from windlass.store import db
from windlass.store.db import connect
from windlass.store.migrate import MigrationChanged, migrate, migrations


@pytest.fixture
def empty_url(servers) -> Iterator[str]:
    """A database with nothing in it."""
    servers.execute("CREATE DATABASE empty")
    yield servers.url_of("empty")
    servers.execute("DROP DATABASE empty WITH (FORCE)")


async def test_four_at_once_apply_each_migration_once(empty_url: str) -> None:
    done = await asyncio.gather(*(migrate(empty_url) for _ in range(4)))
    assert sorted(name for names in done for name in names) == [name for name, _ in migrations()]
    assert await migrate(empty_url) == []


async def test_an_edited_migration_is_told(empty_url: str) -> None:
    await migrate(empty_url)
    with psycopg.connect(empty_url) as conn:
        conn.execute("UPDATE migrations SET sha256 = 'other'")
    with pytest.raises(MigrationChanged, match=r"0001_\w+\.sql was applied from another text"):
        await migrate(empty_url)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="PostgreSQL does not answer"):
        await connect("postgresql://127.0.0.1:1/none", "test")


async def test_a_lost_connection_is_unavailable_and_a_mistake_is_not(database_url: str) -> None:
    pool = db.make_pool(database_url, "test", 1)
    async with pool:
        with pytest.raises(psycopg.errors.SyntaxError):
            async with db.borrow(pool) as conn:
                await conn.execute("SELEC")
        with pytest.raises(Unavailable, match="windlass migrate"):
            async with db.borrow(pool) as conn:
                await conn.execute("SELECT * FROM nowhere")
        with pytest.raises(Unavailable):
            async with db.borrow(pool) as conn:
                await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        async with db.borrow(pool) as conn:
            await db.ping(conn)
