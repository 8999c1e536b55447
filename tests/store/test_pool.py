"""Connections over failures: which of them pass, that idle ones which died are not used, and where a URL may lead."""

import asyncio

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.conftest import Servers
from tests.support import HANG_S, wait_until
from windlass.errors import Unavailable
from windlass.store import db, pool


@pytest.mark.parametrize(
    "code",
    [
        "08000",
        "08006",
        "53000",
        "53100",
        "53200",
        "53300",
        "57P01",
        "57P02",
        "57P03",
        "57014",
        "40001",
        "40P01",
        "55P03",
        "25006",
        "58030",
    ],
)
def test_passing_failures_are_unavailable(code: str):
    with pytest.raises(Unavailable), db.unavailable():
        raise psycopg.errors.lookup(code)("not now")


@pytest.mark.parametrize("code", ["42601", "22P02", "23505", "42883"])
def test_mistakes_stay_what_they_are(code: str):
    with pytest.raises(psycopg.Error), db.unavailable():
        raise psycopg.errors.lookup(code)("a mistake")


async def test_connections_that_were_ended_are_not_given_out(database_url: str, servers: Servers):
    async with db.make_pool(database_url, "idle", 3) as shared:

        async def ask() -> None:
            async with db.borrow(shared) as conn:
                await db.ping(conn)
                await asyncio.sleep(0.05)

        await asyncio.gather(ask(), ask(), ask())
        servers.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'windlass-idle'"
        )
        await asyncio.gather(ask(), ask(), ask())


async def test_nobody_waits_for_a_server_known_to_be_away(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool, "WAIT_S", 3600.0)
    async with db.make_pool(f"postgresql:///x?host={tmp_path}", "away", 2) as shared:
        for _ in range(3):
            with pytest.raises(Unavailable, match="PostgreSQL"):
                async with db.borrow(shared):
                    pass


async def test_all_busy_is_told_in_time_and_a_lock_is_not_waited_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pool, "WAIT_S", 0.2)
    monkeypatch.setattr(db, "REQUEST_LOCK_S", 0.3)
    async with db.make_pool(database_url, "busy", 1) as shared:
        async with db.borrow(shared):
            with pytest.raises(Unavailable, match="busy"):
                async with db.borrow(shared):
                    pass
        async with await db.connect(database_url, "holder") as holder, holder.transaction():
            await holder.execute("LOCK TABLE jobs")
            with pytest.raises(Unavailable, match="55P03"):
                async with db.borrow(shared) as conn:
                    await conn.execute("SELECT count(*) FROM jobs")
        async with db.borrow(shared) as conn:
            await conn.execute("SELECT count(*) FROM jobs")


async def test_who_is_cancelled_lets_go_at_once(database_url: str):
    async with await db.connect(database_url, "sleeper") as conn:
        asking = asyncio.create_task(conn.execute("SELECT pg_sleep(3600)"))
        await wait_until(lambda: conn.info.transaction_status == TransactionStatus.ACTIVE, "it sleeps")
        asking.cancel()
        await asyncio.wait([asking], timeout=HANG_S)
        assert asking.cancelled()
        assert conn.closed


async def test_a_server_that_became_a_standby_is_left(database_url: str):
    """The URL's own options decide which server will do."""
    async with await db.connect(f"{database_url}&target_session_attrs=read-write", "test") as conn:
        assert "read-write" in str(conn.info.get_parameters()["target_session_attrs"])
    with pytest.raises(Unavailable, match="PostgreSQL"):
        await db.connect(f"{database_url}&target_session_attrs=standby", "test")
    async with db.make_pool(database_url, "failover", 1) as shared:
        async with db.borrow(shared) as conn:
            await conn.execute("SET default_transaction_read_only = on")
        with pytest.raises(Unavailable, match="25006"):
            async with db.borrow(shared) as conn:
                await conn.execute("DELETE FROM jobs")
        async with db.borrow(shared) as conn:
            await conn.execute("DELETE FROM jobs")
