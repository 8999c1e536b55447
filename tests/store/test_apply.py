"""The one door: fence, versions, outbox, and what a statement leaves out."""

import asyncio
from dataclasses import replace

import psycopg
import pytest

from tests.builders import Ledger, a_node, a_spec, placed
from tests.store.conftest import Connect
from tests.support import wait_until
from windlass.core.attempt import step
from windlass.core.events import CancelRequested, Exited, Started
from windlass.core.ids import ATTEMPT, AttemptId
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.core.task import Step
from windlass.errors import Fenced
from windlass.mint import new_id
from windlass.store import events, leases, outbox, tasks
from windlass.store.apply import apply
from windlass.store.db import Conn

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def blocked(watcher: Ledger) -> None:
    """Until some session of this database waits for a lock."""
    await wait_until(lambda: watcher.one(WAITS), "a session that waits")


async def test_a_life_is_written_and_read_back_as_it_was(ledger: Ledger) -> None:
    term = await ledger.lead()
    [job] = await ledger.submit(a_spec(attempt_timeout=9.5, ttl_after_finished=60))
    start = await ledger.place(job, term=term)
    await ledger.move(job, Started(start.attempt.placed_at + 1.5), term=term)  # pyright: ignore
    ended = Exited(start.attempt.placed_at + 2, Cause.EXIT_CODE, 3, "no")  # pyright: ignore
    done = await ledger.move(job, ended, term=term)
    live = await ledger.task(job)
    assert live.task.not_before == pytest.approx(done.task.not_before, abs=1e-6), "moments are kept in microseconds"
    assert live.task == replace(done.task, version=3, not_before=live.task.not_before)
    assert live.task.state is TaskState.BACKOFF
    assert done.attempt is not None
    assert live.attempt == done.attempt
    told = [(e.type, (e.data or {}).get("outcome")) for e in await events.of_job(ledger.conn, job)]
    assert told == [("job.submitted", None), ("job.placed", None), ("job.started", None), ("job.backoff", "failed")]


async def test_a_former_leader_writes_nothing(ledger: Ledger) -> None:
    """Not a row, an event, an order; nor are outbox rows cleared on its word."""
    old = await ledger.lead("old")
    first, second = await ledger.submit(a_spec(), a_spec())
    await ledger.place(first, term=old)
    rows = [order.id for order in await outbox.unsent(ledger.conn, 0)]
    await leases.expire(ledger.conn, old)
    new = await ledger.lead("new")
    assert new == old + 1
    before = await ledger.task(second)
    facts = await ledger.one("SELECT count(*) FROM events")
    with pytest.raises(Fenced, match=f"term {old} is over"):
        await ledger.write(placed(before.task, fence=old), term=old, sent=rows)
    assert await ledger.task(second) == before
    assert await ledger.one("SELECT count(*) FROM events") == facts
    assert [order.id for order in await outbox.unsent(ledger.conn, 0)] == rows


async def test_even_an_empty_write_tells_a_former_leader(ledger: Ledger) -> None:
    term = await ledger.lead()
    with pytest.raises(Fenced):
        await ledger.write(term=term + 1)
    await ledger.write(term=term)


async def test_a_takeover_waits_for_a_write_under_way(ledger: Ledger, another: Connect) -> None:
    term = await ledger.lead("old", ttl_s=0.001)
    [job] = await ledger.submit()
    start = placed((await ledger.task(job)).task, fence=term)
    writer, rival = await another(), await another()
    async with writer.transaction():
        await apply(writer, [start], term=term)
        takeover = asyncio.create_task(leases.take(rival, "new", 60))
        await blocked(ledger)
        assert not takeover.done()
    assert await takeover == term + 1
    assert (await ledger.task(job)).task.state is TaskState.ACTIVE, "what was written under the old term stands"


async def test_a_write_that_waited_for_a_takeover_is_fenced(ledger: Ledger, another: Connect) -> None:
    term = await ledger.lead("old", ttl_s=0.001)
    [job] = await ledger.submit()
    before = await ledger.task(job)
    rival, writer = await another(), await another()
    async with rival.transaction():
        assert await leases.take(rival, "new", 60) == term + 1
        write = asyncio.create_task(apply(writer, [placed(before.task, fence=term)], term=term))
        await blocked(ledger)
    with pytest.raises(Fenced):
        await write
    assert await ledger.task(job) == before


async def test_a_row_that_moved_is_left_out_with_all_that_hangs_on_it(ledger: Ledger) -> None:
    moved_on, still = await ledger.submit(a_spec(), a_spec())
    stale = placed((await ledger.task(moved_on)).task)
    fine = placed((await ledger.task(still)).task)
    await ledger.move(moved_on, CancelRequested())
    facts = len(await events.of_job(ledger.conn, moved_on))
    applied = await ledger.write(stale, fine)
    assert applied.moved == {fine.task.id}
    live = await ledger.task(moved_on)
    assert live.attempt is None
    assert live.task.state is TaskState.CANCELLED
    assert len(await events.of_job(ledger.conn, moved_on)) == facts
    assert await tasks.by_attempt(ledger.conn, [stale.attempt.id]) == ({}, [])  # pyright: ignore


async def test_two_writers_of_one_version_one_wins(ledger: Ledger, another: Connect) -> None:
    [job] = await ledger.submit()
    task = (await ledger.task(job)).task
    conns: list[Conn] = [await another() for _ in range(4)]
    applied = await asyncio.gather(*(apply(conn, [placed(task)], term=None) for conn in conns))
    assert sorted(len(a.moved) for a in applied) == [0, 0, 0, 1]
    assert (await ledger.task(job)).task.version == 1


async def test_two_live_attempts_of_one_task_cannot_be(ledger: Ledger) -> None:
    """Not even by a step that is wrong."""
    [job] = await ledger.submit()
    start = await ledger.place(job)
    assert start.attempt is not None
    twin = replace(start.attempt, id=AttemptId(new_id(ATTEMPT)), number=2)
    with pytest.raises(psycopg.errors.UniqueViolation, match="attempts_one_live"):
        await ledger.write(Step(1, start.task, twin))


async def test_the_outbox_is_filled_per_node_and_cleared(ledger: Ledger) -> None:
    made = await ledger.submit(*[a_spec()] * 3)
    one, other = a_node("one"), a_node("other")
    starts = [placed((await ledger.task(job)).task, node) for job, node in zip(made, (one, one, other), strict=True)]
    applied = await ledger.write(*starts)
    orders = await outbox.unsent(ledger.conn, 0)
    assert {order.id for order in orders} == set(applied.outbox)
    ids = [s.attempt.id for s in starts if s.attempt]
    assert [(o.node_id, sorted(o.launch), o.stop) for o in orders] == [
        (one.id, sorted(ids[:2]), ()),
        (other.id, ids[2:], ()),
    ]
    assert await outbox.unsent(ledger.conn, 60) == []
    cancel = await ledger.move(made[0], CancelRequested())
    assert cancel.attempt is not None
    assert [o.stop for o in await outbox.unsent(ledger.conn, 0)][-1] == (cancel.attempt.id,)
    await ledger.write(sent=applied.outbox)
    assert len(await outbox.unsent(ledger.conn, 0)) == 1
    term = await ledger.lead()
    await outbox.clear(ledger.conn, [o.id for o in await outbox.unsent(ledger.conn, 0)], term=term)
    assert await outbox.unsent(ledger.conn, 0) == []


async def test_hundreds_of_steps_are_one_write(ledger: Ledger) -> None:
    made = await ledger.submit(*[a_spec()] * 400)
    live, _ = await tasks.by_id(ledger.conn, [(await ledger.task(job)).task.id for job in made])
    applied = await ledger.write(*(placed(one.task) for one in live.values()))
    assert len(applied.moved) == 400
    assert len(applied.outbox) == 1
    assert len((await tasks.all_live(ledger.conn))[0]) == 400


async def test_limits_are_kept_as_the_moment_to_wake(ledger: Ledger) -> None:
    [job] = await ledger.submit(a_spec(start_timeout=100))
    assert await tasks.next_due(ledger.conn) is None
    await ledger.place(job)
    ahead = await tasks.next_due(ledger.conn)
    assert ahead is not None
    assert 104 < ahead <= 105
    assert await tasks.due(ledger.conn) == ([], [])
    await ledger.one("UPDATE tasks SET wake_at = now() RETURNING 1")
    assert [one.task.job_id for one in (await tasks.due(ledger.conn))[0]] == [job]


async def test_an_attempt_that_ended_is_never_moved_again_by_a_later_one(ledger: Ledger) -> None:
    [job] = await ledger.submit(a_spec(max_retries=1))
    first = await ledger.place(job)
    await ledger.move(job, Exited(first.attempt.placed_at, Cause.NODE_LOST))  # pyright: ignore
    second = await ledger.place(job)
    found, _ = await tasks.by_attempt(ledger.conn, [first.attempt.id, second.attempt.id])  # pyright: ignore
    assert [one.attempt.state for one in found.values() if one.attempt] == [AttemptState.LOST, AttemptState.PLACED]
    assert all(one.task.attempts == 2 for one in found.values())


async def test_what_takes_the_place_of_an_end_waits_for_that_end(ledger: Ledger) -> None:
    """A cancel moved the row whose end gives the room: neither is written, so no node holds more than it has."""
    term = await ledger.lead()
    first, second = await ledger.submit(a_spec(), a_spec())
    await ledger.place(first, term=term)
    live = await ledger.task(first)
    assert live.attempt is not None
    ends = step(live.task, live.attempt, Exited(live.attempt.placed_at + 1, None, 0), live.attempt.placed_at + 1)
    assert isinstance(ends, Step)
    takes = placed((await ledger.task(second)).task, fence=term)
    await ledger.move(first, CancelRequested())
    applied = await apply(ledger.conn, [ends, takes], term=term)
    assert not applied.moved
    assert (await ledger.task(second)).task.state is TaskState.QUEUED
    applied = await apply(ledger.conn, [takes], term=term)
    assert applied.moved == {takes.task.id}
