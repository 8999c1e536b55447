"""PostgreSQL, the ledger: whether it keeps what it commits, and serves us as we need."""

from collections.abc import Mapping

import psycopg

from windlass.doctor.clocks import measure
from windlass.doctor.findings import Notes, Severity
from windlass.doctor.hosts import near
from windlass.errors import SettingsError, Unavailable
from windlass.settings import Database
from windlass.store import checkup, migrate
from windlass.store.db import SESSION, Conn, connect
from windlass.store.isolation import isolation

ANSWER_S = 5.0
OLDEST = 140_000
#: Connections a scheduler has at most; how many of those that stand by are counted when none has been seen.
OF_A_SCHEDULER, SCHEDULERS = 3, 2
#: Share of the connections in use from which on it is told.
BUSY = 0.8
#: Losing these loses what was promised: setting, what a crash then does.
KEEPS = {
    "fsync": "a power cut can lose or break what was committed",
    "full_page_writes": "a power cut can leave half-written pages, which nothing mends",
}


async def examine(settings: Database, notes: Notes) -> None:
    """Look at the server, and at our database in it."""
    try:
        conn = await connect(settings.url, "doctor", pooled=settings.pooled)
    except SettingsError as fault:
        return notes.error("isolation", str(fault), "then look again: see docs/how-to/pgbouncer.md")
    except (Unavailable, psycopg.Error) as fault:
        return notes.error(
            "reachable", str(fault), "see that it runs, that database.url is right, and what its log says"
        )
    conn.answer_s = ANSWER_S
    notes.ok("reachable", "it lets us in")
    try:
        async with conn:
            await _look(conn, settings, notes)
    except (Unavailable, psycopg.OperationalError) as fault:
        notes.error(
            "answers", f"it let us in, and then: {fault}", "see whether it is overloaded, and what its log says"
        )


async def _look(conn: Conn, settings: Database, notes: Notes) -> None:
    facts = await checkup.server(conn)
    notes.facts |= facts
    _version(facts, notes)
    _durable(facts, notes)
    await _sessions(conn, settings, notes)
    await _connections(conn, settings, facts, notes)
    await _schema(conn, notes)
    _sealed(conn, notes)
    notes.clocks["postgresql"] = await measure(lambda: checkup.clock(conn))


def _version(facts: Mapping[str, str], notes: Notes) -> None:
    shown, number = f"PostgreSQL {facts['server_version']}", int(facts["server_version_num"])
    if number < OLDEST:
        notes.error("version", f"{shown} is older than 14", "upgrade it: Windlass is tested from 14 on")
    elif 140_000 <= number < 140_004:
        notes.warn("version", f"{shown} can break indexes that are built concurrently", "upgrade to 14.4 or later")
    else:
        notes.ok("version", shown)
    encoding = facts["server_encoding"]
    if encoding != "UTF8":
        notes.error(
            "encoding", f"the database is {encoding}", "make one with ENCODING 'UTF8', and move what is in this"
        )


def _durable(facts: Mapping[str, str], notes: Notes) -> None:
    for name, loss in KEEPS.items():
        fix = f"set {name} = on in postgresql.conf, and reload"
        notes.judge(name, facts[name] == "on", f"{name} is on", f"{name} is off: {loss}", fix)
    notes.judge(
        "data_checksums",
        facts["data_checksums"] == "on",
        "data checksums are on",
        "data checksums are off: what a disk garbles is taken for what was written",
        "stop PostgreSQL, run `pg_checksums --enable`, start it",
        Severity.WARNING,
    )
    if facts["transaction_read_only"] == "on":
        fix = "point database.url at the primary; with several hosts in it add target_session_attrs=read-write"
        notes.error("writable", "it takes no writes: a standby, or default_transaction_read_only is on", fix)
    if facts["autovacuum"] == "off":
        notes.warn("autovacuum", "autovacuum is off: tables and indexes only grow", "set autovacuum = on, and reload")


async def _sessions(conn: Conn, settings: Database, notes: Notes) -> None:
    """What our sessions are set to, and whether they are ours alone."""
    here = await checkup.session(conn)
    other = {name: value for name, value in here.items() if value != SESSION[name]}
    safe = other.get("synchronous_commit", "on")
    notes.judge(
        "synchronous_commit",
        safe != "off",
        f"synchronous_commit is {safe} in our sessions",
        "synchronous_commit is off in our sessions: what was accepted is lost with a crash",
        "run `windlass migrate` as the user the roles connect as, with the database.pooler they have",
    )
    if other:
        told = ", ".join(f"{name} is {value}, not {SESSION[name]}" for name, value in other.items())
        fix = "set database.pooler = transaction and run `windlass migrate` with a URL straight to PostgreSQL"
        notes.warn("settings", f"settings of our sessions do not arrive: {told}", fix)
    shared = await isolation(settings)
    if settings.pooled:
        fix = "with no pooler between, database.pooler = none lets a standby take over at once"
        fine, told = "a pooler is between, as database.pooler says", "no pooler shares our sessions"
        notes.judge("isolation", shared, fine, told, fix, Severity.NOTE)
    else:
        fix = "set database.pooler = transaction (WINDLASS_DATABASE_POOLER), or go round the pooler"
        fine = "sessions are ours alone: their advisory locks hold"
        told = "a pooler in transaction mode is between: a session's lock would be another client's"
        notes.judge("isolation", not shared, fine, told, fix)


async def _connections(conn: Conn, settings: Database, facts: Mapping[str, str], notes: Notes) -> None:
    used, *limits = await checkup.connections(conn)
    most = int(facts["max_connections"]) - int(facts["superuser_reserved_connections"])
    most -= int(facts.get("reserved_connections", "0"))
    room = min([most, *(limit for limit in limits if limit >= 0)])
    notes.facts["connections"] = {"room": room, "used": used, "pool_max": settings.pool_max}
    schedulers = max(SCHEDULERS, await checkup.schedulers(conn))
    needed = settings.pool_max + OF_A_SCHEDULER * schedulers
    told = (
        f"room for {room} connections, {used} in use; one API process and {schedulers} schedulers take up to {needed}"
    )
    fix = "raise max_connections and restart, lower database.pool_max, or use a pooler: docs/how-to/pgbouncer.md"
    if room < needed and not settings.pooled:
        notes.error("connections", told, fix)
    elif used >= BUSY * room:
        notes.warn("connections", told, fix)
    else:
        notes.ok("connections", told)


async def _schema(conn: Conn, notes: Notes) -> None:
    """Whether it is the schema of this version, and open to our user."""
    try:
        state = await migrate.compare(conn)
    except psycopg.errors.UndefinedTable:
        return notes.error("migrations", "there is no schema of ours in this database", "run `windlass migrate`")
    except psycopg.errors.InsufficientPrivilege as fault:
        return notes.error("migrations", str(fault), "connect as the user that owns the database")
    notes.facts["migrations"] = state.applied
    if state.missing:
        notes.error("migrations", f"not applied: {', '.join(state.missing)}", "run `windlass migrate`")
    elif state.changed:
        told = f"applied from another text: {', '.join(state.changed)}"
        notes.error(
            "migrations", told, "this is no schema of a release: install what made it, or begin with a new database"
        )
    elif state.unknown:
        told = f"newer than this version: {', '.join(state.unknown)}"
        notes.warn("migrations", told, "upgrade Windlass on this host: docs/how-to/upgrade.md")
    else:
        notes.ok("migrations", f"all {len(state.applied)} are applied")
    if closed := await checkup.closed(conn):
        fix = "connect as the user that ran `windlass migrate`, or GRANT that"
        notes.error("privileges", f"this user may not read and write {', '.join(closed)}", fix)


def _sealed(conn: Conn, notes: Notes) -> None:
    host = conn.info.host
    if host.startswith("/") or near(host):
        return
    told = "what goes to PostgreSQL travels in clear"
    notes.judge("tls", conn.pgconn.ssl_in_use, "TLS is on", told, "set database.ca_file", Severity.NOTE)
