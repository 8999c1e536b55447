"""Schedulers and API processes of the version before go on with the ledger as this version's migrations leave it."""

import re
from typing import Any

import msgspec

from tests.builders import Ledger, a_node, a_spec, moved, placed
from tests.compatibility.statements_0_2 import STATEMENTS
from windlass.core.events import CancelRequested, Exited, NodeLost, Started
from windlass.core.ids import JobId
from windlass.core.states import AttemptState, TaskState
from windlass.core.task import Step
from windlass.store import apply as door
from windlass.store import nodes, tasks
from windlass.store.db import Conn

VALUES: dict[str, Any] = {
    "after": -1, "age": 0.0, "attempt_id": "att_x", "attempts": ["att_x"], "before": 1, "bell": None, "body": b"x",
    "cursor": "job_z", "data": [b"x"], "degraded": True,
    "doc": '{"tasks": [], "attempts": [], "events": [], "outbox": [], "sent": []}',
    "drivers": ["docker"], "facts": "{}", "holder": "old", "host": "h", "id": "node_x", "ids": ["x"],
    "job_id": "job_x", "jobs": "[]", "key": 1, "keys": ["k"], "labels": "{}", "leaving": False, "limit": 10,
    "limits": [1], "memory": 1, "millis": 1, "missing": [0], "most": 10, "name": "n", "node_id": "node_x",
    "notes": "[]", "now": None, "pid": 1, "priority": 0, "queue": "q", "row": 0, "seen": None, "seq": 1,
    "shapes": [1], "starts": [0], "state": "ready", "streams": ["stdout"], "suspect": 3, "task": "tsk_x",
    "tasks": ["tsk_x"], "term": 1, "ttl": 1.0, "txid": 0, "version": "0.2.0", "within": 60.0,
}  # fmt: skip
#: Where a name stands for something else.
OWN: dict[str, dict[str, Any]] = {
    "shapes.intern": {"millis": [1], "memory": [1]},
    "outbox.clear": {"ids": [1]},
    "inbox.clear": {"ids": [1]},
}


async def every_statement(conn: Conn) -> None:
    """Sends all that 0.2 ever does. Raises what PostgreSQL refuses, with the statement's name."""
    for name, statement in STATEMENTS.items():
        given = {key: VALUES[key] for key in re.findall(r"%\((\w+)\)s", statement)} | OWN.get(name, {})
        try:
            await conn.execute(statement, given)  # pyright: ignore
        except Exception as error:
            error.add_note(f"{name} is refused")
            raise


async def send(conn: Conn, statement: str, /, **values: Any) -> Any:
    """A statement of 0.2's; its first row, where it has any."""
    done = await conn.execute(STATEMENTS[statement], values)  # pyright: ignore
    return await done.fetchone() if done.description else None


async def write(ledger: Ledger, step: Step, term: int) -> None:
    """Through the door of 0.2."""
    row = await send(
        ledger.conn, "apply.apply", doc=msgspec.json.encode(door._document([step], [])).decode(), term=term
    )
    assert row[:2] == (term, [step.task.id])


async def test_every_statement_of_0_2_is_understood(ledger: Ledger) -> None:
    await every_statement(ledger.conn)


async def test_a_leader_of_0_2_writes_whole_lives_and_we_read_them(ledger: Ledger) -> None:
    term = await ledger.lead("old")
    node = a_node("n1")
    upsert = {"id": node.id, "name": "n1", "state": "ready", "drivers": ["process"], "millis": 4000, "memory": 2**33}
    upsert |= {"version": "0.2.0", "labels": "{}", "facts": "{}", "leaving": True, "term": term}
    assert await send(ledger.conn, "nodes.upsert", **upsert) == (term,)
    await send(ledger.conn, "nodes.drain", id=node.id, within=60)
    [row] = await nodes.every(ledger.conn)
    assert (row.node.open, row.node.draining, row.drain_until is not None) == (False, True, True)
    jobs: list[JobId] = await ledger.submit(*[a_spec(max_retries=0)] * 3)
    ends = [Exited(0.0, None, 0), NodeLost(), CancelRequested()]
    for job, end in zip(jobs, ends, strict=True):
        live = await ledger.task(job)
        now = await tasks.clock(ledger.conn)
        first = placed(live.task, node, fence=term, now=now)
        await write(ledger, first, term)
        running = moved(first, Started(now), now)
        await write(ledger, running, term)
        await write(ledger, moved(running, end, now), term)
    found = [await ledger.task(job) for job in jobs]
    assert [(one.task.state, one.attempt and one.attempt.state) for one in found] == [
        (TaskState.SUCCEEDED, AttemptState.SUCCEEDED),
        (TaskState.QUEUED, AttemptState.LOST),
        (TaskState.ACTIVE, AttemptState.STOPPING),
    ]
    assert (found[1].task.infra_losses, found[1].task.node_losses) == (1, 1)


async def test_0_2_leaves_alone_what_it_does_not_know(ledger: Ledger) -> None:
    """It may take over in the middle of an upgrade: where a job's trace goes on, it stays."""
    trace = ("00-" + "1" * 32 + "-" + "1" * 16 + "-01", "a=b")
    term = await ledger.lead("new")
    [job] = await ledger.submit()
    await ledger.conn.execute("UPDATE jobs SET (traceparent, tracestate) = (%s, %s)", trace)
    await ledger.place(job, a_node("n1"), term=term)
    live = await ledger.task(job)
    await write(ledger, moved(live.task, CancelRequested(), await tasks.clock(ledger.conn), live.attempt), term)
    after = (await ledger.task(job)).task
    assert after.cancel_requested
    assert after.trace is not None
    assert (after.trace.traceparent, after.trace.state) == trace
