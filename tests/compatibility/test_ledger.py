"""Schedulers and API processes of the version before go on with the ledger as this version's migrations leave it."""

import re
from typing import Any

import msgspec
import psycopg

from tests.builders import Ledger, a_node, a_spec, moved, placed
from tests.compatibility.statements_0_1 import STATEMENTS
from windlass.core.events import CancelRequested, Exited, NodeLost, Started
from windlass.core.ids import JobId
from windlass.core.states import AttemptState, TaskState
from windlass.core.task import Step
from windlass.store import apply as door
from windlass.store import nodes, tasks

VALUES: dict[str, Any] = {
    "after": -1, "age": 0.0, "attempt_id": "att_x", "attempts": ["att_x"], "before": 1, "bell": None, "cursor": "job_z",
    "data": [b"x"], "doc": '{"tasks": [], "attempts": [], "events": [], "outbox": [], "sent": []}',
    "drivers": ["docker"], "facts": "{}", "holder": "old", "id": "node_x", "ids": ["x"], "job_id": "job_x",
    "jobs": "[]", "key": 1, "keys": ["k"], "labels": "{}", "limit": 10, "limits": [1], "memory": 1, "millis": 1,
    "missing": [0], "name": "n", "priority": 0, "row": 0, "seq": 1, "shapes": [1], "starts": [0], "state": "ready",
    "streams": ["stdout"], "task": "tsk_x", "tasks": ["tsk_x"], "term": 1, "ttl": 1.0, "txid": 0, "version": "0.1.0",
}  # fmt: skip


async def test_every_statement_of_0_1_is_understood(ledger: Ledger) -> None:
    for name, statement in STATEMENTS.items():
        given = {key: VALUES[key] for key in re.findall(r"%\((\w+)\)s", statement)}
        if name == "shapes.intern":
            given |= {"millis": [1], "memory": [1]}
        if name == "outbox.clear":
            given |= {"ids": [1]}
        try:
            await ledger.conn.execute(statement, given)  # pyright: ignore
        except psycopg.Error as error:
            raise AssertionError(f"{name} is refused: {error}") from error


async def write(ledger: Ledger, step: Step, term: int) -> None:
    """Through the door of 0.1."""
    doc = msgspec.json.encode(door._document([step], [])).decode()
    row = await (
        await ledger.conn.execute(STATEMENTS["apply.apply"], {"doc": doc, "term": term})  # pyright: ignore
    ).fetchone()
    assert row is not None
    assert row[0] == [step.task.id]


async def test_a_leader_of_0_1_writes_whole_lives_and_we_read_them(ledger: Ledger) -> None:
    term = await ledger.lead("old")
    node = a_node("n1")
    upsert = {"id": node.id, "name": "n1", "state": "ready", "drivers": ["process"], "millis": 4000, "memory": 2**33}
    upsert |= {"version": "0.1.0", "labels": "{}", "facts": "{}", "term": term}
    await ledger.conn.execute(STATEMENTS["nodes.upsert"], upsert)  # pyright: ignore
    [row] = await nodes.every(ledger.conn)
    assert (row.node.open, row.node.draining, row.drain_until) == (True, False, None)
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
    lost = found[1].task
    assert (lost.infra_losses, lost.node_losses, lost.refusals) == (1, 0, 0), "what 0.1 does not count, nobody has"


async def test_0_1_leaves_alone_what_it_does_not_know(ledger: Ledger) -> None:
    """It may take over in the middle of an upgrade: a drain goes on, and counters stay."""
    term = await ledger.lead("new")
    node = a_node("n1")
    await nodes.upsert(ledger.conn, node, version="0.2.0", labels={}, facts={}, term=term)
    await nodes.drain(ledger.conn, node.id, 60)
    [job] = await ledger.submit()
    await ledger.place(job, node, term=term)
    await ledger.move(job, Started(1.0), term=term)
    await ledger.move(job, NodeLost(), term=term)
    live = await ledger.task(job)
    await write(ledger, moved(live.task, CancelRequested(), await tasks.clock(ledger.conn), live.attempt), term)
    upsert = {"id": node.id, "name": "n1", "state": "ready", "drivers": ["process"], "millis": 4000, "memory": 2**33}
    upsert |= {"version": "0.2.0", "labels": "{}", "facts": "{}", "term": term}
    await ledger.conn.execute(STATEMENTS["nodes.upsert"], upsert)  # pyright: ignore
    assert (await ledger.task(job)).task.node_losses == 1
    [row] = await nodes.every(ledger.conn)
    assert (row.node.cordoned, row.node.draining, row.drain_until is not None) == (True, True, True)
