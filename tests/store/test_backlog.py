"""What waits, counted by shape, and how long the oldest has."""

from tests.builders import Ledger, a_spec
from windlass.core.ids import JobId, task_of
from windlass.store import backlog


async def age(ledger: Ledger, job: JobId, seconds: float) -> None:
    await ledger.conn.execute(
        "UPDATE tasks SET queued_at = now() - %s * interval '1 s' WHERE id = %s", (seconds, task_of(job))
    )


async def test_waiting_and_live_tasks_by_shape(ledger: Ledger):
    small = await ledger.submit(*[a_spec(0.5)] * 5)
    await ledger.submit(*[a_spec(2)] * 3)
    await ledger.place(small[0])
    found = {one.shape.need.millis: (one.waiting, one.live) for one in (await backlog.count(ledger.conn)).values()}
    assert found == {500: (4, 1), 2000: (3, 0)}
    bounded = await backlog.count(ledger.conn, most=2)
    assert {one.waiting for one in bounded.values()} == {2}


async def test_nothing_waits(ledger: Ledger):
    assert await backlog.count(ledger.conn) == {}
    assert await backlog.oldest_s(ledger.conn) == 0
    assert await backlog.under_way(ledger.conn) == (0, 0)


async def test_the_oldest_of_every_shape_and_priority(ledger: Ledger):
    jobs = await ledger.submit(*[a_spec(cpu, priority=p) for cpu in (1, 2, 3) for p in (5, 0, -5, 5, 0, -5)])
    for job in jobs:
        await age(ledger, job, 10)
    for job in jobs[:3] + jobs[6:9] + jobs[12:15]:  # the first of each line
        await age(ledger, job, 1000)
        assert 1000 <= await backlog.oldest_s(ledger.conn) < 1010, job
        await age(ledger, job, 10)
    assert await backlog.oldest_s(ledger.conn) >= 10


async def test_a_clock_that_went_back_makes_no_wait_negative(ledger: Ledger):
    (job,) = await ledger.submit()
    await age(ledger, job, -100)
    assert await backlog.oldest_s(ledger.conn) == 0


async def test_orders_under_way(ledger: Ledger):
    (job,) = await ledger.submit()
    await ledger.place(job)
    assert await backlog.under_way(ledger.conn) == (1, 0)
