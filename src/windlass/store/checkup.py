"""What `windlass doctor` asks the server about itself, and `windlass debug` about what is in our tables.

Nothing here writes; every answer is bounded, however much there is.
"""

from typing import Any, LiteralString

import psycopg

from windlass.store.db import SESSION, Conn

CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
SERVER = """
SELECT name, setting FROM pg_settings WHERE name IN ('server_version_num', 'server_version', 'fsync',
    'full_page_writes', 'data_checksums', 'synchronous_commit', 'server_encoding', 'max_connections',
    'superuser_reserved_connections', 'reserved_connections', 'autovacuum',
    'transaction_read_only', 'wal_level', 'shared_buffers', 'max_wal_size')
"""
CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""
SCHEDULERS = "SELECT count(*) FROM schedulers WHERE seen_at > now() - interval '5 seconds'"
#: Every session setting of ours, and what it is here.
SESSION_HERE = "SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) AS name"
CLOSED = """
SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND NOT (
    has_table_privilege(quote_ident(tablename), 'SELECT') AND has_table_privilege(quote_ident(tablename), 'INSERT')
    AND has_table_privilege(quote_ident(tablename), 'UPDATE') AND has_table_privilege(quote_ident(tablename), 'DELETE'))
"""

#: Tasks that are not over, counted up to 100,000 of them all.
OPEN = """
SELECT state, count(*) FROM (SELECT state FROM tasks WHERE finished_at IS NULL LIMIT 100000) open GROUP BY state
ORDER BY state
"""
#: The latest first, of the last 5,000 those that are young enough.
RECENT = """
SELECT at, job_id, type, data FROM (
    SELECT txid, id, at, job_id, type, data FROM events ORDER BY events.txid DESC, events.id DESC LIMIT 5000
) last WHERE at > now() - %(within)s::float8 * interval '1 second' ORDER BY last.txid DESC, last.id DESC
"""
MIGRATIONS = "SELECT name, sha256, applied_at FROM migrations ORDER BY name"
LEASES = "SELECT name, holder, term, since, expires_at, now() AS now FROM leases ORDER BY name LIMIT 100"
TABLES = """
SELECT relname AS name, n_live_tup AS rows, n_dead_tup AS dead_rows, pg_total_relation_size(relid) AS bytes,
    last_vacuum, last_autovacuum, last_analyze, last_autoanalyze
FROM pg_stat_user_tables WHERE schemaname = current_schema() ORDER BY relname
"""
#: What our sessions do; never a statement's text, which may hold values.
SESSIONS = """
SELECT application_name AS name, backend_type, state, wait_event_type, wait_event, count(*) AS sessions,
    extract(epoch FROM max(now() - xact_start))::float8 AS longest_transaction_s,
    extract(epoch FROM max(now() - state_change))::float8 AS longest_in_state_s
FROM pg_stat_activity WHERE datname = current_database() GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""


async def clock(conn: Conn) -> float:
    """Its clock, in seconds since 1970."""
    (now,) = await _row(conn, CLOCK)
    return now


async def server(conn: Conn) -> dict[str, str]:
    """Settings of the server, by name; those it does not know are not there."""
    return dict(await (await conn.execute(SERVER)).fetchall())


async def session(conn: Conn) -> dict[str, str]:
    """What each of the settings that our sessions are to have is here."""
    return dict(await (await conn.execute(SESSION_HERE, {"names": list(SESSION)})).fetchall())


async def connections(conn: Conn) -> tuple[int, int, int]:
    """Connections in use, and the most our user and our database may have; -1 is any number."""
    used, of_user, of_database = await _row(conn, CONNECTIONS)
    return used, of_user, of_database


async def schedulers(conn: Conn) -> int:
    """How many schedulers have been seen lately; 0 also where our schema is not."""
    try:
        (count,) = await _row(conn, SCHEDULERS)
    except psycopg.errors.UndefinedTable:
        return 0
    return count


async def closed(conn: Conn) -> list[str]:
    """The tables that our user may not read and write."""
    return [row[0] for row in await (await conn.execute(CLOSED)).fetchall()]


async def table(conn: Conn, statement: LiteralString, **values: Any) -> list[dict[str, Any]]:
    """The rows one of the statements above gives, by the names of their columns. Raises what the driver raises."""
    result = await conn.execute(statement, values or None)
    names = [column.name for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in await result.fetchall()]


async def _row(conn: Conn, statement: LiteralString) -> tuple[Any, ...]:
    row = await (await conn.execute(statement)).fetchone()
    assert row is not None
    return row
