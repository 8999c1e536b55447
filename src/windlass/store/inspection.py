"""The ledger as an auditor reads it: everything at once, to hold what is recorded against what happened.

Nothing here writes, but for `cut`, which is a fault on purpose. Moments are seconds since the epoch by the database's
clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.store.db import Conn, unavailable
from windlass.store.events import Cursor

#: What became of attempts since the cursor, with the term that placed them.
TAIL = """
SELECT e.txid::text, e.id, extract(epoch FROM e.at)::float8, e.job_id, e.type, e.data->>'attempt_id',
    e.data->>'node', a.fence
FROM events e LEFT JOIN attempts a ON e.type = 'job.placed' AND a.id = e.data->>'attempt_id'
WHERE (e.txid, e.id) > (%(txid)s::text::xid8, %(row)s::bigint) AND e.txid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.txid, e.id LIMIT 5000
"""
LEADER = """
SELECT l.term, s.pid, l.holder FROM leases l LEFT JOIN schedulers s ON s.id = l.holder
WHERE l.name = 'leader' AND l.expires_at > now()
"""
DEGRADED = "SELECT count(*) FROM schedulers WHERE redis_degraded_since IS NOT NULL AND seen_at > now() - interval '5 s'"
#: Without exclusive ones, which are not placed anew before the node's copy is proven gone.
LIVE_ON = """
SELECT a.id FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id
WHERE a.node_name = %(node)s AND a.state IN ('placed', 'preparing', 'running', 'stopping')
    AND NOT coalesce((j.spec->>'exclusive')::boolean, false)
"""
OPEN = "SELECT count(*) FROM tasks WHERE finished_at IS NULL"
NODES = "SELECT name, state, extract(epoch FROM heartbeat_at)::float8 FROM nodes"
JOBS = """
SELECT j.id, j.name, t.state, t.retries, t.infra_losses, coalesce(t.reason, '')
FROM jobs j LEFT JOIN tasks t ON t.job_id = j.id ORDER BY j.id
"""
ATTEMPTS = """
SELECT a.id, t.job_id, a.number, a.node_name, a.state, a.fence, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, coalesce(a.cause, '')
FROM attempts a JOIN tasks t ON t.id = a.task_id ORDER BY t.job_id, a.number
"""
ENDS = """
SELECT e.job_id, e.type, e.data->>'attempt_id' FROM events e
WHERE e.data->>'outcome' IS NOT NULL OR e.type IN ('job.succeeded', 'job.failed', 'job.cancelled')
"""
#: Terms in the order their writes took their transaction's number: a write under an old term takes it before the
#: takeover commits, and everything under the new one after.
TERMS = """
SELECT a.fence FROM events e JOIN attempts a ON a.id = e.data->>'attempt_id' WHERE e.type = 'job.placed'
ORDER BY e.txid, e.id
"""
OUTPUT = """
SELECT attempt_id, string_agg(data, '' ORDER BY start), sum(missing)::bigint FROM log_chunks
WHERE stream = 'stdout' GROUP BY attempt_id
"""
LEFT_OVER = "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM inbox)"
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of the log. `fence` is the term of a placement."""

    at: float
    job_id: str
    type: str
    attempt_id: str | None
    node: str | None
    fence: int | None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job with its task's state; no state: it has no task."""

    id: str
    name: str
    state: str | None
    retries: int
    infra_losses: int
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt as recorded."""

    id: str
    job_id: str
    number: int
    node: str
    state: str
    fence: int
    placed_at: float
    started_at: float | None
    finished_at: float | None
    cause: str


@dataclass(frozen=True, slots=True)
class EndRow:
    """One recorded end: of an attempt, of a job, or of both at once."""

    job_id: str
    type: str
    attempt_id: str | None


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node, and when it was last heard."""

    name: str
    state: str
    heard_at: float


@dataclass(frozen=True, slots=True)
class Books:
    """All that is recorded."""

    jobs: Sequence[JobRow]
    attempts: Sequence[AttemptRow]
    ends: Sequence[EndRow]
    terms: Sequence[int]
    #: attempt -> its standard output, and how many bytes of it are recorded as missing
    output: Mapping[str, tuple[bytes, int]]


async def _rows(conn: Conn, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    with unavailable():
        return await (await conn.execute(sql, values)).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]


async def tail(conn: Conn, cursor: Cursor) -> tuple[Cursor, list[Happening]]:
    """What happened behind the cursor, and the next cursor."""
    rows = await _rows(conn, TAIL, txid=cursor.txid, row=cursor.row)
    last = Cursor(rows[-1][0], rows[-1][1]) if rows else cursor
    return last, [Happening(*row[2:]) for row in rows]


async def leader(conn: Conn) -> tuple[int, int] | None:
    """(term, process id) of who leads now."""
    rows = await _rows(conn, LEADER)
    if not rows:
        return None
    term, pid, holder = rows[0]
    return term, pid or int(holder.rpartition("/")[2])


async def degraded(conn: Conn) -> int:
    """Schedulers that do without Redis now."""
    return (await _rows(conn, DEGRADED))[0][0]


async def live_on(conn: Conn, node: str) -> list[str]:
    """Attempts of jobs that are not exclusive, recorded as alive on the node of this name."""
    return [row[0] for row in await _rows(conn, LIVE_ON, node=node)]


async def unfinished(conn: Conn) -> int:
    """Tasks that are not over."""
    return (await _rows(conn, OPEN))[0][0]


async def nodes(conn: Conn) -> list[NodeState]:
    """All nodes."""
    return [NodeState(*row) for row in await _rows(conn, NODES)]


async def left_over(conn: Conn) -> tuple[int, int]:
    """Rows that wait in the outbox and in the inbox."""
    row = (await _rows(conn, LEFT_OVER))[0]
    return row[0], row[1]


async def books(conn: Conn) -> Books:
    """All of it at one moment: whatever still changes, its parts agree with each other."""
    with unavailable():
        async with conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await conn.execute("SET LOCAL enable_seqscan = on")
            return Books(
                [JobRow(*row) for row in await _rows(conn, JOBS)],
                [AttemptRow(*row) for row in await _rows(conn, ATTEMPTS)],
                [EndRow(*row) for row in await _rows(conn, ENDS)],
                [row[0] for row in await _rows(conn, TERMS)],
                {attempt_id: (data, missing) for attempt_id, data, missing in await _rows(conn, OUTPUT)},
            )


async def cut(conn: Conn) -> int:
    """Cut every other connection to this database; how many."""
    return (await _rows(conn, CUT))[0][0]
