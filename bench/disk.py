"""What a finished job leaves in the ledger: rows, indexes and a line of output."""

import psutil
import psycopg

from bench.cluster import roles
from bench.jobs import SLOTS
from bench.report import Row
from bench.wire import Connection, submit_all, wait_all

SPEC = {"command": ["echo", "a line of output, such as jobs write when they are done"], "driver": "process"}


async def ledger(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """Growth of the database over many jobs, by job; dead rows are cleared away first, as autovacuum does."""
    count = 2000 if quick else 10_000
    url = roles(supervisor)["api"].environ()["WINDLASS_DATABASE_URL"]
    connection = Connection(port)
    slots = SLOTS * (psutil.cpu_count() or 2)
    await wait_all(connection, await submit_all(connection, SPEC, 200), slots)
    before = _size(url)
    await wait_all(connection, await submit_all(connection, SPEC, count), slots)
    grown = (_size(url) - before) / count / 1024
    await connection.close()
    return [Row("ledger's growth for each finished job with one line of output", f"{grown:.1f} KiB")]


def _size(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM")
        row = conn.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return row[0]
