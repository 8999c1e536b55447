"""Reading tasks: the heads of the line, and tasks with their latest attempt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from windlass.core.ids import AttemptId, JobId, NodeId, TaskId
from windlass.core.placement.snapshot import Pending, Room, Shape
from windlass.core.spec import JobSpec
from windlass.core.states import AttemptState, Cause, Driver, TaskState
from windlass.core.task import Attempt, Task
from windlass.store.db import Conn

_spec = msgspec.json.Decoder(JobSpec)

TASK_COLUMNS = """t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text"""

ATTEMPT_COLUMNS = """a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message, a.late"""

#: How many heads HEADS gives of a shape the caller does not name.
UNKNOWN_SHAPE_LIMIT = 8
#: The first tasks of every shape's line, at most `limits[shape]` of each, by tasks_line.
HEADS = f"""
SELECT s.driver, s.millis, s.memory, t.priority, t.seq, {TASK_COLUMNS}, extract(epoch FROM now())::float8
FROM shapes s
LEFT JOIN unnest(%(shapes)s::integer[], %(limits)s::integer[]) AS l (shape, n) ON l.shape = s.id
CROSS JOIN LATERAL (
    SELECT * FROM tasks h WHERE h.shape = s.id AND h.state = 'queued'
    ORDER BY h.priority DESC, h.seq LIMIT coalesce(l.n, 8)
) t
JOIN jobs j ON j.id = t.job_id
"""

_WITH_LATEST = f"""
SELECT {TASK_COLUMNS}, {ATTEMPT_COLUMNS}
FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN attempts a ON a.task_id = t.id AND a.number = t.attempts
"""
#: Tasks with their latest attempt, by task id.
BY_ID = _WITH_LATEST + "WHERE t.id = ANY(%(ids)s)"
#: The task of an attempt, with that attempt, whether or not it is the latest.
BY_ATTEMPT = f"""
SELECT {TASK_COLUMNS}, {ATTEMPT_COLUMNS}
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id WHERE a.id = ANY(%(ids)s)
"""
#: Every task with a live attempt: read once, at election.
ALL_LIVE = f"""
SELECT {TASK_COLUMNS}, {ATTEMPT_COLUMNS}
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id
WHERE a.state IN ('placed', 'preparing', 'running', 'stopping')
"""
#: Every task with a live attempt on one node, and the database's clock.
LIVE_ON_NODE = f"""
SELECT {TASK_COLUMNS}, {ATTEMPT_COLUMNS}, extract(epoch FROM now())::float8
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id
WHERE a.state IN ('placed', 'preparing', 'running', 'stopping') AND a.node_id = %(node_id)s
"""
#: Tasks one of whose time limits has passed, by tasks_wake and the caller's clock.
DUE = _WITH_LATEST + "WHERE t.wake_at <= coalesce(to_timestamp(%(now)s), now()) ORDER BY t.wake_at LIMIT %(limit)s"
#: How far ahead the next time limit is, in seconds; negative when it has passed.
NEXT_DUE = """
SELECT extract(epoch FROM min(wake_at) - coalesce(to_timestamp(%(now)s), now()))::float8
FROM tasks WHERE wake_at IS NOT NULL
"""
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


@dataclass(frozen=True, slots=True)
class Live:
    """A task with its attempt, and the spec's text as it is stored, to be passed on without decoding."""

    task: Task
    attempt: Attempt | None
    spec_text: str


@dataclass(frozen=True, slots=True)
class Head:
    """A queued task at the front of its shape's line."""

    pending: Pending
    live: Live


def _task(row: Sequence[Any]) -> tuple[Task, str]:
    (
        tid,
        job,
        shape,
        state,
        version,
        created,
        queued,
        attempts,
        retries,
        losses,
        with_node,
        refusals,
        cancel,
        before,
        finished,
        why,
        text,
    ) = row
    task = Task(
        TaskId(tid),
        JobId(job),
        _spec.decode(text),
        shape,
        TaskState(state),
        version,
        created,
        queued,
        attempts,
        retries,
        losses,
        with_node,
        refusals,
        cancel,
        before,
        finished,
        why,
    )
    return task, text


def _attempt(row: Sequence[Any]) -> Attempt | None:
    aid, number, node, name, fence, state, placed, started, finished, stop, sent, cause, code, message, late = row
    if aid is None:
        return None
    return Attempt(
        AttemptId(aid),
        number,
        NodeId(node),
        name,
        fence,
        AttemptState(state),
        placed,
        started,
        finished,
        Cause(stop) if stop else None,
        sent,
        Cause(cause) if cause else None,
        code,
        message,
        late,
    )


def _live(row: Sequence[Any]) -> Live:
    task, text = _task(row[:17])
    return Live(task, _attempt(row[17:32]), text)


async def heads(conn: Conn, limits: Mapping[int, int]) -> tuple[list[Head], dict[int, Shape], float | None]:
    """The front of every line, the shapes seen, and the database's clock (None when all lines are empty)."""
    cursor = await conn.execute(HEADS, {"shapes": list(limits), "limits": list(limits.values())})
    found: list[Head] = []
    shapes: dict[int, Shape] = {}
    now: float | None = None
    for driver, millis, memory, priority, seq, *rest in await cursor.fetchall():
        *columns, now = rest
        task, text = _task(columns)
        if task.shape not in shapes:
            shapes[task.shape] = Shape(Driver(driver), Room(millis, memory))
        found.append(Head(Pending(task.id, task.shape, priority, seq, task.queued_at), Live(task, None, text)))
    return found, shapes, now


async def by_id(conn: Conn, ids: Sequence[TaskId]) -> dict[TaskId, Live]:
    """Tasks with their latest attempt."""
    cursor = await conn.execute(BY_ID, {"ids": list(ids)})
    return {live.task.id: live for live in map(_live, await cursor.fetchall())}


async def by_attempt(conn: Conn, ids: Sequence[AttemptId]) -> dict[AttemptId, Live]:
    """The tasks of these attempts, each with that attempt."""
    cursor = await conn.execute(BY_ATTEMPT, {"ids": list(ids)})
    return {live.attempt.id: live for live in map(_live, await cursor.fetchall()) if live.attempt}


async def all_live(conn: Conn) -> list[Live]:
    """Every task with a live attempt."""
    return [_live(row) for row in await (await conn.execute(ALL_LIVE)).fetchall()]


async def live_on(conn: Conn, node_id: NodeId) -> tuple[list[Live], float]:
    """Every task with a live attempt on this node, and the database's clock (0 without any)."""
    rows = await (await conn.execute(LIVE_ON_NODE, {"node_id": node_id})).fetchall()
    return [_live(row) for row in rows], rows[0][-1] if rows else 0.0


async def due(conn: Conn, limit: int = 500, now: float | None = None) -> list[Live]:
    """Tasks one of whose time limits has passed by `now` (None: by the database's clock), the oldest first."""
    return [_live(row) for row in await (await conn.execute(DUE, {"limit": limit, "now": now})).fetchall()]


async def next_due(conn: Conn, now: float | None = None) -> float | None:
    """Seconds from `now` (None: by the database's clock) until the next time limit of any task, if there is one."""
    row = await (await conn.execute(NEXT_DUE, {"now": now})).fetchone()
    return None if row is None else row[0]


async def clock(conn: Conn) -> float:
    """The database's clock, in seconds since the epoch."""
    row = await (await conn.execute(CLOCK)).fetchone()
    assert row is not None
    return row[0]
