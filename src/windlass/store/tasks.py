"""Reading tasks: the heads of the line, and tasks with their latest attempt.

A row that this version cannot read, for a later one wrote it, never spoils the others: it is given apart, as Unread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from windlass import __version__
from windlass.core.ids import AttemptId, JobId, NodeId, TaskId
from windlass.core.placement.snapshot import Pending, Room, Shape
from windlass.core.spec import JobSpec
from windlass.core.states import TERMINAL_ATTEMPT, AttemptState, Cause, TaskState
from windlass.core.task import Attempt, Task
from windlass.core.trace import parse
from windlass.store.db import Conn

_spec = msgspec.json.Decoder(JobSpec)

TASK_COLUMNS = """t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.traceparent, j.tracestate, j.spec::text"""

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
class Unread:
    """A task that this version cannot read, or not move: as much of its row as it takes to leave it alone."""

    task_id: TaskId
    job_id: JobId
    version: int
    shape: int
    state: str
    #: what is on record as the reason it waits
    reason: str | None
    #: what is wrong with it, in words
    why: str
    #: its attempt, if that is not known to be over, and the node it is on
    attempt_id: AttemptId | None
    node_id: NodeId | None
    #: the row with a stand-in for its spec, where the rest can be read: for a wish that asks nothing of the spec
    specless: Live | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A queued task at the front of its shape's line."""

    pending: Pending
    live: Live


#: Characters that are kept of what an error says.
WORDS_LIMIT = 200


class Unreadable(ValueError):
    """A spec that this version does not understand."""


#: What is wrong with JSON that is no spec of ours: a word or a type that is not known, or nested too deep.
_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)


def read_spec(text: str) -> JobSpec:
    """A spec as it is stored. Raises Unreadable, which says why in words."""
    try:
        return _spec.decode(text)
    except _FAULTS as error:
        raise Unreadable(f"its spec cannot be read by version {__version__}: {said(error)}") from error


def said(error: Exception) -> str:
    """What an error says, as it can be kept in the ledger and shown in one line."""
    words = (str(error).replace("\x00", "").strip() or type(error).__name__).splitlines()[0]
    return words if len(words) <= WORDS_LIMIT else f"{words[:WORDS_LIMIT]}..."


def unread(one: Live, why: str) -> Unread:
    """A task that can be read, and still cannot be moved."""
    task, attempt = one.task, one.attempt
    held = attempt if attempt is not None and not attempt.state.terminal else None
    where = (held.id, held.node_id) if held is not None else (None, None)
    return Unread(task.id, task.job_id, task.version, task.shape, task.state, task.reason, why, *where)


def _task(row: Sequence[Any], spec: JobSpec) -> Task:
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
        traceparent,
        tracestate,
    ) = row
    return Task(
        TaskId(tid),
        JobId(job),
        spec,
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
        None if traceparent is None else parse(traceparent, tracestate or ""),
    )


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


_TEXT = 18
_NO_ATTEMPT = (None,) * 15


def _live(row: Sequence[Any]) -> Live | Unread:
    text = row[_TEXT]
    try:
        task = _task(row[:_TEXT], _spec.decode(text))
        return Live(task, _attempt(row[_TEXT + 1 : _TEXT + 16]), text)
    except _FAULTS as error:
        return _unread(row, error)


def _unread(row: Sequence[Any], error: Exception) -> Live | Unread:
    """What can be made of a row that does not read. One that is over, or only to be ended, asks nothing of its spec."""
    specless = _specless(row)
    if specless is not None and (specless.task.cancel_requested or specless.task.state.terminal):
        return specless
    what = "record" if specless is None else "spec"
    tid, job, shape, state, version = row[:5]
    attempt_id, node_id, attempt_state = row[_TEXT + 1], row[_TEXT + 3], row[_TEXT + 6]
    over = attempt_state in TERMINAL_ATTEMPT
    return Unread(
        TaskId(tid),
        JobId(job),
        version,
        shape,
        state,
        row[15],
        f"its {what} cannot be read by version {__version__}: {said(error)}",
        None if attempt_id is None or over else AttemptId(attempt_id),
        None if attempt_id is None or over else NodeId(node_id),
        specless,
    )


def _specless(row: Sequence[Any]) -> Live | None:
    try:
        return Live(_task(row[:_TEXT], JobSpec()), _attempt(row[_TEXT + 1 : _TEXT + 16]), row[_TEXT])
    except _FAULTS:
        return None


def _apart(rows: Iterable[Sequence[Any]]) -> tuple[list[Live], list[Unread]]:
    lives: list[Live] = []
    others: list[Unread] = []
    for row in rows:
        one = _live(row)
        lives.append(one) if isinstance(one, Live) else others.append(one)
    return lives, others


async def heads(
    conn: Conn, limits: Mapping[int, int]
) -> tuple[list[Head], dict[int, Shape], float | None, list[Unread]]:
    """The front of every line, the shapes seen, the database's clock (None when all lines are empty), and what stands
    in line and cannot be read."""
    cursor = await conn.execute(HEADS, {"shapes": list(limits), "limits": list(limits.values())})
    found: list[Head] = []
    others: list[Unread] = []
    shapes: dict[int, Shape] = {}
    now: float | None = None
    for driver, millis, memory, priority, seq, *rest in await cursor.fetchall():
        *columns, now = rest
        one = _live((*columns, *_NO_ATTEMPT))
        if isinstance(one, Unread):
            others.append(one)
            continue
        task = one.task
        if task.shape not in shapes:
            shapes[task.shape] = Shape(driver, Room(millis, memory))
        found.append(Head(Pending(task.id, task.shape, priority, seq, task.queued_at), one))
    return found, shapes, now, others


async def by_id(conn: Conn, ids: Sequence[TaskId]) -> tuple[dict[TaskId, Live], list[Unread]]:
    """Tasks with their latest attempt, and those that cannot be read."""
    cursor = await conn.execute(BY_ID, {"ids": list(ids)})
    lives, others = _apart(await cursor.fetchall())
    return {live.task.id: live for live in lives}, others


async def by_attempt(conn: Conn, ids: Sequence[AttemptId]) -> tuple[dict[AttemptId, Live], list[Unread]]:
    """The tasks of these attempts, each with that attempt; and those that cannot be read."""
    cursor = await conn.execute(BY_ATTEMPT, {"ids": list(ids)})
    lives, others = _apart(await cursor.fetchall())
    return {live.attempt.id: live for live in lives if live.attempt}, others


async def all_live(conn: Conn) -> tuple[list[Live], list[Unread]]:
    """Every task with a live attempt, and those that cannot be read."""
    return _apart(await (await conn.execute(ALL_LIVE)).fetchall())


async def live_on(conn: Conn, node_id: NodeId) -> tuple[list[Live], list[Unread], float]:
    """Every task with a live attempt on this node, those that cannot be read, and the database's clock (0 without
    any)."""
    rows = await (await conn.execute(LIVE_ON_NODE, {"node_id": node_id})).fetchall()
    return *_apart(rows), rows[0][-1] if rows else 0.0


async def due(conn: Conn, limit: int = 500, now: float | None = None) -> tuple[list[Live], list[Unread]]:
    """Tasks one of whose time limits has passed by `now` (None: by the database's clock), the oldest first; and those
    that cannot be read."""
    return _apart(await (await conn.execute(DUE, {"limit": limit, "now": now})).fetchall())


async def next_due(conn: Conn, now: float | None = None) -> float | None:
    """Seconds from `now` (None: by the database's clock) until the next time limit of any task, if there is one."""
    row = await (await conn.execute(NEXT_DUE, {"now": now})).fetchone()
    return None if row is None else row[0]


async def clock(conn: Conn) -> float:
    """The database's clock, in seconds since the epoch."""
    row = await (await conn.execute(CLOCK)).fetchone()
    assert row is not None
    return row[0]
