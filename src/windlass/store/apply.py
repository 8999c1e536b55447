"""The one door: the only writer of task and attempt state.

One statement checks the leader's term, moves rows by version, writes attempts and events, fills the outbox and clears
what was sent, for hundreds of steps at once. A row whose version moved meanwhile is left out, with all that hangs on
it; the caller sees which moved. The API uses the same door without a term.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from windlass.core.events import LaunchCommand, StopCommand
from windlass.core.ids import TaskId
from windlass.core.task import Attempt, Step, Task, wake_at
from windlass.store import fence
from windlass.store.audit import By
from windlass.store.db import Conn

_MOVE = """ tasks t SET
        state = s.state, version = t.version + 1, attempts = s.attempts, retries = s.retries,
        infra_losses = s.infra_losses, node_losses = s.node_losses, refusals = s.refusals,
        cancel_requested = s.cancel_requested, reason = s.reason,
        queued_at = to_timestamp(s.queued_at), not_before = to_timestamp(s.not_before),
        wake_at = to_timestamp(s.wake_at), finished_at = to_timestamp(s.finished_at),
        expire_at = to_timestamp(s.expire_at)
    FROM asked s
    WHERE t.id = s.id AND t.version = s.base AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
"""
#: Moves all steps whose base version still stands.
#: A placement leans on the room that ends in the same write give back: it moves only if all that is no placement did.
APPLY = (
    f"""
WITH {fence.FENCE},
doc AS MATERIALIZED (SELECT %(doc)s::json AS d),
asked AS MATERIALIZED (
    SELECT * FROM json_to_recordset((SELECT d -> 'tasks' FROM doc)) AS s (id text, base integer, leans boolean,
        state text, attempts integer, retries integer, infra_losses integer, node_losses integer, refusals integer,
        cancel_requested boolean, reason text, queued_at float8, not_before float8, wake_at float8,
        finished_at float8, expire_at float8)
),
freeing AS (UPDATE"""
    + _MOVE
    + """ AND NOT s.leans RETURNING t.id),
filling AS (UPDATE"""
    + _MOVE
    + """ AND s.leans AND (SELECT count(*) FROM freeing) = (SELECT count(*) FROM asked WHERE NOT leans) RETURNING t.id),
moved AS (SELECT id FROM freeing UNION ALL SELECT id FROM filling),
tried AS (
    INSERT INTO attempts AS a (id, task_id, number, node_id, node_name, fence, shape, state, placed_at, started_at,
        finished_at, stop_cause, stop_sent_at, cause, exit_code, message)
    SELECT s.id, s.task_id, s.number, s.node_id, s.node_name, s.fence, s.shape, s.state, to_timestamp(s.placed_at),
        to_timestamp(s.started_at), to_timestamp(s.finished_at), s.stop_cause, to_timestamp(s.stop_sent_at), s.cause,
        s.exit_code, s.message
    FROM json_to_recordset((SELECT d -> 'attempts' FROM doc)) AS s (id text, task_id text, number integer,
        node_id text, node_name text, fence bigint, shape integer, state text, placed_at float8, started_at float8,
        finished_at float8, stop_cause text, stop_sent_at float8, cause text, exit_code integer, message text)
    JOIN moved ON moved.id = s.task_id
    ON CONFLICT (id) DO UPDATE SET
        state = excluded.state, started_at = excluded.started_at, finished_at = excluded.finished_at,
        stop_cause = excluded.stop_cause, stop_sent_at = excluded.stop_sent_at, cause = excluded.cause,
        exit_code = excluded.exit_code, message = excluded.message
),
told AS (
    INSERT INTO events (job_id, type, data)
    SELECT s.job_id, s.type, s.data
    FROM json_to_recordset((SELECT d -> 'events' FROM doc)) AS s (task_id text, job_id text, type text, data json)
    JOIN moved ON moved.id = s.task_id
),
noted AS (
    INSERT INTO audit (token_id, who, role, request_id, action, target)
    SELECT s.token_id, s.who, s.role, s.request_id, s.action, s.target
    FROM json_to_recordset((SELECT d -> 'audit' FROM doc)) AS s (task_id text, token_id text, who text, role text,
        request_id text, action text, target text)
    JOIN moved ON moved.id = s.task_id
),
ordered AS (
    INSERT INTO outbox (node_id, body)
    SELECT s.node_id, s.body
    FROM json_to_recordset((SELECT d -> 'outbox' FROM doc)) AS s (node_id text, body json)
    WHERE EXISTS (SELECT FROM moved)
    RETURNING id
),
cleared AS (
    DELETE FROM outbox WHERE id IN (SELECT value::bigint FROM json_array_elements_text((SELECT d -> 'sent' FROM doc)))
        AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
)
SELECT (SELECT term FROM fence), (SELECT array_agg(id) FROM moved), (SELECT array_agg(id) FROM ordered),
       extract(epoch FROM now())::float8
"""
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a call moved. `outbox` names the rows it filled; `now` is the database's clock, seconds."""

    moved: frozenset[TaskId]
    outbox: tuple[int, ...]
    now: float


async def apply(
    conn: Conn, steps: Sequence[Step], *, term: int | None, sent: Sequence[int] = (), by: By | None = None
) -> Applied:
    """Write the steps, at most one per task, with a record of who asked for them, if anybody did. `sent` are outbox
    rows that were shipped. Raises Fenced, Unavailable."""
    asked = [] if by is None else [{"task_id": s.task.id, "target": s.task.job_id, **asdict(by)} for s in steps]
    doc = msgspec.json.encode(_document(steps, sent) | {"audit": asked}).decode()
    _, moved, outbox, now = await fence.write(conn, APPLY, {"doc": doc}, term)
    return Applied(frozenset(moved or ()), tuple(outbox or ()), now)


def _document(steps: Sequence[Step], sent: Sequence[int]) -> dict[str, list[Any]]:
    attempts = [_attempt_row(s.task, s.attempt) for s in steps if s.attempt is not None]
    events = [
        {"task_id": s.task.id, "job_id": s.task.job_id, "type": r.type, "data": r.data or None}
        for s in steps
        for r in s.records
    ]
    tasks = [_task_row(s) for s in steps]
    return {"tasks": tasks, "attempts": attempts, "events": events, "outbox": _outbox_rows(steps), "sent": list(sent)}


def _task_row(step: Step) -> dict[str, Any]:
    task, ttl = step.task, step.task.spec.ttl_after_finished
    expires = ttl is not None and task.finished_at is not None
    return {
        "id": task.id,
        "base": step.base,
        "leans": step.places,
        "state": task.state,
        "attempts": task.attempts,
        "retries": task.retries,
        "infra_losses": task.infra_losses,
        "node_losses": task.node_losses,
        "refusals": task.refusals,
        "cancel_requested": task.cancel_requested,
        "reason": task.reason,
        "queued_at": task.queued_at,
        "not_before": task.not_before,
        "wake_at": wake_at(task, step.attempt),
        "finished_at": task.finished_at,
        "expire_at": task.finished_at + ttl if expires and task.finished_at and ttl is not None else None,
    }


def _attempt_row(task: Task, attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "task_id": task.id,
        "number": attempt.number,
        "node_id": attempt.node_id,
        "node_name": attempt.node_name,
        "fence": attempt.fence,
        "shape": task.shape,
        "state": attempt.state,
        "placed_at": attempt.placed_at,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "stop_cause": attempt.stop_cause,
        "stop_sent_at": attempt.stop_sent_at,
        "cause": attempt.cause,
        "exit_code": attempt.exit_code,
        "message": attempt.message,
    }


def _outbox_rows(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """One row per node and call: ids only; what they mean is read from the ledger when a row must be sent again."""
    by_node: dict[str, dict[str, list[Any]]] = defaultdict(lambda: {"launch": [], "stop": []})
    for step in steps:
        for command in step.commands:
            match command:
                case LaunchCommand():
                    by_node[command.node_id]["launch"].append(command.attempt_id)
                case StopCommand():
                    by_node[command.node_id]["stop"].append(command.attempt_id)
    return [{"node_id": node_id, "body": body} for node_id, body in by_node.items()]
