"""Poison: a task that this version cannot read, place or write is parked with a reason, and the others go on."""

import pytest
from structlog.testing import capture_logs

from tests.builders import a_spec
from tests.scheduler.conftest import N1, Office, exited
from windlass.core.events import CancelRequested
from windlass.core.ids import JobId, task_of
from windlass.core.placement import plan as planning
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.metrics import POISON_TASK, REPAIRS
from windlass.scheduler import dispatch, drain, expire, ship
from windlass.scheduler.desk import PARKED_S
from windlass.store import events
from windlass.stream import wire

SPECS = [
    '{"driver":"future","command":["true"]}',
    '{"driver":"process","command":["true"],"resources":{"cpu":"many"}}',
    '{"driver":"a\\u0000b"}',
    "null",
    "[" * 5000 + "]" * 5000,
]

IS_DUE = "UPDATE tasks SET (wake_at, not_before) = (now() - interval '1 s', now() - interval '1 s') RETURNING 1"


async def rewrite(office: Office, job: JobId, spec: str) -> None:
    """A later version's API wrote this one."""
    assert await office.ledger.one("UPDATE jobs SET spec = %s::json WHERE id = %s RETURNING 1", spec, job)


async def row(office: Office, job: JobId) -> tuple[str, str | None, float | None]:
    """State, reason, and seconds until it is looked at again."""
    query = "SELECT state, reason, extract(epoch FROM wake_at - now())::float8 FROM tasks WHERE id = %s"
    found = await (await office.ledger.conn.execute(query, [task_of(job)])).fetchone()
    assert found is not None
    return found


def parked() -> float:
    return REPAIRS.labels(kind=POISON_TASK)._value.get()


@pytest.mark.parametrize("spec", SPECS, ids=["word", "type", "nul", "null", "deep"])
async def test_one_spec_nobody_here_can_read(office: Office, spec: str) -> None:
    await office.node()
    bad, good = await office.ledger.submit(a_spec(priority=9), a_spec())
    await rewrite(office, bad, spec)
    before = parked()
    with capture_logs() as said:
        assert await dispatch.run_once(office.desk) == 1
    assert (await office.ledger.task(good)).task.state is TaskState.ACTIVE
    state, reason, ahead = await row(office, bad)
    assert (state, parked() - before) == ("backoff", 1)
    assert reason is not None
    assert reason.startswith("its spec cannot be read by version ")
    assert ahead == pytest.approx(PARKED_S, abs=3)
    [line] = [one for one in said if one["event"] == "repair"]
    assert line["jobs"] == {bad: reason}
    assert (await events.of_job(office.ledger.conn, bad))[-1].type == "job.parked"


async def test_parked_is_told_once_and_looked_at_again(office: Office) -> None:
    await office.node()
    [bad] = await office.ledger.submit()
    await rewrite(office, bad, SPECS[0])
    await dispatch.run_once(office.desk)
    before = parked()
    await office.ledger.one(IS_DUE)
    assert await expire.run_once(office.desk) == 0
    state, _, ahead = await row(office, bad)
    assert (state, parked()) == ("backoff", before)
    assert ahead == pytest.approx(PARKED_S, abs=3)
    assert [one.type for one in await events.of_job(office.ledger.conn, bad)] == ["job.submitted", "job.parked"]


async def test_who_can_read_it_runs_it(office: Office) -> None:
    await office.node()
    [job] = await office.ledger.submit()
    await rewrite(office, job, SPECS[0])
    await dispatch.run_once(office.desk)
    await rewrite(office, job, '{"driver":"process","command":["true"]}')
    await office.ledger.one(IS_DUE)
    assert await expire.run_once(office.desk) == 1
    attempt = await office.place(job)
    await office.report(exited(attempt))
    live = await office.ledger.task(job)
    assert (live.task.state, live.task.reason) == (TaskState.SUCCEEDED, None)


async def test_a_line_full_of_them_hides_nobody(office: Office) -> None:
    await office.node()
    made = await office.ledger.submit(*[a_spec(priority=9)] * 20, a_spec())
    for job in made[:-1]:
        await rewrite(office, job, SPECS[0])
    assert await dispatch.run_once(office.desk) == 1
    assert (await office.ledger.task(made[-1])).task.state is TaskState.ACTIVE


async def test_a_shape_of_an_unknown_driver(office: Office) -> None:
    await office.node()
    bad, good = await office.ledger.submit(a_spec(cpu=2), a_spec())
    await rewrite(office, bad, SPECS[0])
    await office.ledger.conn.execute("ALTER TABLE shapes DROP CONSTRAINT shapes_driver_check")
    await office.ledger.one("UPDATE shapes SET driver = 'future', millis = 2001 WHERE millis = 2000 RETURNING 1")
    await office.reload()
    assert await dispatch.run_once(office.desk) == 1
    assert [(await row(office, job))[0] for job in (bad, good)] == ["backoff", "active"]


async def test_an_active_one_is_left_alone(office: Office) -> None:
    """A later version placed it: this one counts its room, and does nothing else, whatever it hears."""
    await office.node(cpu=2)
    [job] = await office.ledger.submit(a_spec(start_timeout=1.0))
    attempt = await office.place(job)
    await office.orders()
    await rewrite(office, job, SPECS[1])
    await office.reload()
    assert office.desk.picture.used[N1].millis == 1000
    assert office.desk.picture.live == {}
    await office.report(wire.Started(N1, attempt, 0.0), exited(attempt))
    office.watch.inventory.seen.clear()
    for _ in range(3):
        await office.beat(N1, attempt)
    await office.beat(N1)
    await office.ledger.one("UPDATE tasks SET wake_at = now() - interval '1 s' RETURNING 1")
    assert await expire.run_once(office.desk) == 0
    assert await ship.run_once(office.desk, 0.0) == 0
    await drain.run_once(office.desk)
    told = [order for order in await office.orders() if not isinstance(order, wire.Heard)]
    assert told == [], "its node keeps what it knows, until somebody can read it"
    state, reason, ahead = await row(office, job)
    assert (state, reason) == ("active", None)
    assert ahead == pytest.approx(PARKED_S, abs=3), "what is due and cannot be read must not keep the leader busy"
    await rewrite(office, job, '{"driver":"process","command":["true"],"start_timeout":600}')
    await office.report(exited(attempt))
    assert (await office.ledger.task(job)).task.state is TaskState.SUCCEEDED, "nothing was lost"


async def test_one_that_is_only_to_be_ended_is_ended(office: Office) -> None:
    """A cancel asks nothing of the spec."""
    await office.node()
    [job] = await office.ledger.submit()
    attempt = await office.place(job)
    await office.ledger.move(job, CancelRequested())
    await rewrite(office, job, SPECS[0])
    await office.reload()
    assert await ship.run_once(office.desk, 0.0) == 1
    assert [type(order) for order in await office.orders()][-1] is wire.Stop
    await office.report(exited(attempt))
    live = await office.ledger.task(job)
    assert live.attempt is not None
    assert (live.task.state, live.attempt.state) == (TaskState.SUCCEEDED, AttemptState.SUCCEEDED)


async def test_a_plan_that_fails_for_one_shape(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = planning.fits

    def breaks(node: planning.Node, shape: planning.Shape) -> bool:
        if shape.need.millis == 1500:
            raise ArithmeticError("no such room")
        return fits(node, shape)

    monkeypatch.setattr(planning, "fits", breaks)
    await office.node()
    bad, good = await office.ledger.submit(a_spec(cpu=1.5), a_spec())
    assert await dispatch.run_once(office.desk) == 1
    state, reason, _ = await row(office, bad)
    assert state == "backoff"
    assert reason is not None
    assert "cannot place it: ArithmeticError: no such room" in reason
    assert (await office.ledger.task(good)).task.state is TaskState.ACTIVE


async def test_quantities_the_ledger_cannot_hold(office: Office) -> None:
    """A moment beyond all calendars in one step of many: the others are written."""
    await office.node()
    bad, good = await office.ledger.submit(a_spec(priority=9, start_timeout=1e300), a_spec())
    assert await dispatch.run_once(office.desk) == 1
    state, reason, _ = await row(office, bad)
    assert state == "backoff"
    assert reason is not None
    assert "DatetimeFieldOverflow" in reason
    assert (await office.ledger.task(good)).task.state is TaskState.ACTIVE


async def test_an_end_that_leads_nowhere(office: Office) -> None:
    """What follows of one end cannot be worked out; the one beside it is recorded, and the node forgets neither."""
    await office.node()
    bad, good = await office.ledger.submit(a_spec(), a_spec())
    await office.place(good)
    attempts = [await office.attempt(job) for job in (bad, good)]
    await rewrite(office, bad, '{"driver":"process","command":["true"],"backoff":{"factor":1e300}}')
    await office.ledger.one("UPDATE tasks SET retries = 2 WHERE job_id = %s RETURNING 1", bad)
    await office.reload()
    await office.orders()
    wrong = [wire.Exited(N1, attempt, 0.0, Cause.EXIT_CODE, 1, "", 0.1) for attempt in attempts]
    await office.report(*wrong)
    assert (await office.ledger.task(bad)).task.state is TaskState.ACTIVE
    assert (await office.ledger.task(good)).task.state is TaskState.BACKOFF
    [forget] = await office.orders()
    assert isinstance(forget, wire.Forget)
    assert forget.attempt_ids == (attempts[1],)
    await office.reload()
