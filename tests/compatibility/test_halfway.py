"""A migration that is broken off: what was begun is undone, the version before works on, another run completes it."""

import asyncio
import json
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest

from tests.builders import Ledger, a_node
from tests.compatibility.test_ledger import every_statement, send
from tests.conftest import Servers
from tests.support import wait_until
from windlass.core.events import Exited, Started
from windlass.core.ids import JobId, task_of
from windlass.core.states import TaskState
from windlass.store import migrate
from windlass.store.db import connect

KNOWN_TO_0_2 = 2
#: What makes the migration wait in its middle, and how many are done by then.
HALTS = {
    "CREATE TABLE audit ()": 2,  # the third one makes a table before this one
    "LOCK TABLE jobs IN ACCESS SHARE MODE": 3,
    "LOCK TABLE shapes IN ACCESS SHARE MODE": 4,
}
WAITING = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
_numbers = count(1)


@pytest.fixture
def empty_url(servers: Servers) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"halfway_{next(_numbers)}"
    servers.execute(f"CREATE DATABASE {name}")
    yield servers.url_of(name)
    servers.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(("halt", "done"), HALTS.items())
async def test_0_2_works_on_with_half_a_migration_and_another_run_completes_it(
    empty_url: str, halt: str, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrate.migrations()
    names = [name for name, _ in every]
    monkeypatch.setattr(migrate, "migrations", lambda: every[:KNOWN_TO_0_2])
    assert await migrate.migrate(empty_url) == names[:KNOWN_TO_0_2]
    monkeypatch.undo()
    await _broken_off(empty_url, halt)
    conn = await connect(empty_url, "test")
    try:
        assert (await migrate.compare(conn)).missing == names[done:]
        await every_statement(conn)
        job = await _submitted(Ledger(conn))
        assert await migrate.migrate(empty_url) == names[done:]
        ledger = Ledger(conn)
        await ledger.place(job, a_node("n1"))
        for event in (Started(1.0), Exited(0.0, None, 0)):
            await ledger.move(job, event)
        assert (await ledger.task(job)).task.state is TaskState.SUCCEEDED
    finally:
        await conn.close()


async def _broken_off(url: str, halt: str) -> None:
    """The migration's session is ended where it waits."""
    with psycopg.connect(url) as blocker, psycopg.connect(url, autocommit=True) as admin:
        blocker.execute(halt)  # pyright: ignore
        running = asyncio.create_task(migrate.migrate(url))
        (pid,) = await wait_until(lambda: admin.execute(WAITING).fetchone(), "it waits in its middle")
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(psycopg.OperationalError):
            await running
        blocker.rollback()


async def _submitted(ledger: Ledger) -> JobId:
    """A job that an API of 0.2 has accepted."""
    (shape, *_) = await send(ledger.conn, "shapes.intern", drivers=["process"], millis=[1000], memory=[2**20])
    job = JobId("job_0000000000000000000000old")
    row = {"ord": 0, "id": job, "task": task_of(job), "queue": "default", "labels": {}, "priority": 0, "shape": shape}
    row["spec"] = {"command": ["true"], "driver": "process", "resources": {"cpu": 1.0, "memory": 2**20}}
    _, accepted = await send(ledger.conn, "jobs.submit", jobs=json.dumps([row]))
    assert accepted == [job]
    return job
