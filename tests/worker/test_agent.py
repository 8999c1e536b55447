"""The agent's commands: each may come twice, late, or out of order, and does the same."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from tests.support import wait_until
from tests.worker.site import Site, a_launch, a_stop, at_work
from windlass.core.ids import ATTEMPT, AttemptId
from windlass.core.spec import Resources
from windlass.core.states import Cause, Driver
from windlass.driver.base import Ticket
from windlass.mint import new_id
from windlass.stream import wire


@pytest.fixture
async def site(tmp_path: Path, redis_url: str, anyio_backend: str):
    async with at_work(tmp_path, redis_url) as working:
        yield working


def starts(site: Site, launch: wire.Launch) -> int:
    return sum(isinstance(r, wire.Started) and r.attempt_id == launch.attempt_id for r in site.leader.heard)


async def test_an_attempt_is_run_and_told(site: Site):
    launch = a_launch(env={"run_for": "0.2", "exit_code": "3"})
    site.obey(launch)
    begun = await site.leader.hears(wire.Started, launch.attempt_id)
    assert begun.node_id == site.agent.me.id
    exited = await site.exited(launch)
    assert (exited.cause, exited.exit_code) == (Cause.EXIT_CODE, 3)
    assert exited.started_ago is not None
    assert exited.started_ago - exited.ago > 0.15
    await site.idle()
    assert list((site.folder / "mock").iterdir()) == []
    assert site.agent.node().free == site.agent.me.capacity
    assert site.agent.beat().attempts == (launch.attempt_id,), "held until the ledger has it"
    site.obey(wire.Forget((launch.attempt_id,)))
    assert site.agent.beat().attempts == ()


async def test_a_short_attempts_start_and_end_are_one_report(site: Site):
    launch = a_launch()
    site.obey(launch)
    exited = await site.exited(launch)
    assert exited.started_ago is not None
    assert starts(site, launch) == 0


async def test_a_launch_that_comes_again_starts_nothing(site: Site):
    launch = a_launch(env={"run_for": "0.3"})
    site.obey(launch, launch)
    await site.leader.hears(wire.Started, launch.attempt_id)
    site.obey(launch)
    assert len(site.agent.runs) == 1
    await site.exited(launch)
    await site.idle()
    site.obey(launch)
    assert not site.agent.runs, "nor after its end"
    site.obey(wire.Forget((launch.attempt_id,)))
    site.obey(launch)
    assert not site.agent.runs, "nor once it is forgotten"
    await site.leader.listen()
    assert starts(site, launch) == 1


async def test_a_stop_ends_it_for_its_cause(site: Site):
    launch = a_launch(env={"run_for": "60"})
    site.obey(launch)
    await site.leader.hears(wire.Started, launch.attempt_id)
    site.obey(a_stop(launch, Cause.TIMEOUT, "too long"))
    site.obey(a_stop(launch, Cause.CANCELLED, "another wish"))
    exited = await site.exited(launch)
    assert (exited.cause, exited.message, exited.exit_code) == (Cause.TIMEOUT, "too long", 143)


async def test_a_launch_is_on_the_disk_before_it_runs(site: Site, monkeypatch: pytest.MonkeyPatch):
    """After a power cut its order, come again, would look like a new one (simulated seed 81038)."""
    driver = site.agent.drivers[Driver.MOCK]
    started_with: list[bool] = []
    start = driver.start

    async def noted(ticket: Ticket) -> None:
        started_with.append(site.journal._synced == site.journal._written)
        await start(ticket)

    monkeypatch.setattr(driver, "start", noted)
    launch = a_launch()
    site.obey(launch)
    await site.exited(launch)
    assert started_with == [True]


async def test_what_can_not_be_brought_to_the_disk_is_not_run(site: Site, monkeypatch: pytest.MonkeyPatch):
    async def broken() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    launch = a_launch()
    with monkeypatch.context() as disk:
        disk.setattr(site.journal, "sync", broken)
        site.obey(launch)
        refused = await site.leader.hears(wire.Refused, launch.attempt_id)
    assert "can't note what it runs: Input/output error" in refused.message


async def test_why_one_is_stopped_is_on_the_disk_before_it_is(site: Site, monkeypatch: pytest.MonkeyPatch):
    """After a power cut its end would look like the job's own failure (simulated seeds 18961, 63494)."""
    launch = a_launch(env={"run_for": "60"})
    site.obey(launch)
    await site.leader.hears(wire.Started, launch.attempt_id)
    (run,) = site.agent.runs.values()
    stopped_with: list[bool] = []
    stop = run._driver.stop

    async def noted(ticket: Ticket, grace_s: float) -> None:
        stopped_with.append(site.journal._synced == site.journal._written)
        await stop(ticket, grace_s)

    monkeypatch.setattr(run._driver, "stop", noted)
    site.obey(a_stop(launch))
    await site.exited(launch)
    assert stopped_with == [True]


async def test_a_stop_in_the_launchs_own_batch(site: Site):
    launch = a_launch(env={"run_for": "60"})
    site.obey(a_stop(launch), launch)
    exited = await site.exited(launch)
    assert (exited.cause, exited.started_ago) == (Cause.CANCELLED, None)
    await site.idle()
    assert list((site.folder / "mock").iterdir()) == []


async def test_a_stop_before_its_launch_keeps_it_from_starting(site: Site):
    launch = a_launch(env={"run_for": "60"})
    site.obey(a_stop(launch))
    exited = await site.exited(launch)
    assert exited.cause is Cause.CANCELLED
    assert "never started" in exited.message
    site.obey(launch)
    assert not site.agent.runs
    assert not site.journal.entries


async def test_what_could_not_be_noted_is_not_run_later(site: Site, monkeypatch: pytest.MonkeyPatch):
    """Simulated seed 1504: the order came twice, and the second time there was room on the disk again."""
    launch = a_launch()

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(site.journal, "launched", full)
        site.obey(launch)
    await site.leader.hears(wire.Refused, launch.attempt_id)
    site.obey(launch)
    again = await site.leader.hears(wire.Refused, launch.attempt_id, count=2)
    assert "can't note what it runs" in again.message, "the first may have been lost, or the order would not have come"
    assert not site.agent.runs
    assert launch.attempt_id not in site.journal.entries


async def test_a_stop_after_the_end_tells_the_end_again(site: Site):
    launch = a_launch(env={"exit_code": "5"})
    site.obey(launch)
    await site.exited(launch)
    site.obey(a_stop(launch))
    again = await site.leader.hears(wire.Exited, launch.attempt_id, count=2)
    assert (again.cause, again.exit_code) == (Cause.EXIT_CODE, 5)


async def test_forgetting_what_still_runs_ends_it(site: Site):
    launch = a_launch(env={"run_for": "60"})
    site.obey(launch)
    await site.leader.hears(wire.Started, launch.attempt_id)
    site.obey(wire.Forget((launch.attempt_id, AttemptId(new_id(ATTEMPT)))))
    assert launch.attempt_id in site.journal.entries
    exited = await site.exited(launch)
    assert exited.cause is Cause.CANCELLED
    assert "superseded" in exited.message
    site.obey(wire.Forget((launch.attempt_id,)))
    await site.idle()
    assert not site.journal.entries


async def test_what_does_not_fit_is_refused(site: Site):
    large = a_launch(resources=Resources(cpu=3, memory=2**20), env={"run_for": "60"})
    site.obey(large)
    second = a_launch(resources=Resources(cpu=3, memory=2**20))
    site.obey(second)
    refused = await site.leader.hears(wire.Refused, second.attempt_id)
    assert "cpu" in refused.message
    memory = a_launch(resources=Resources(cpu=0.1, memory=2**40))
    other = a_launch(driver=Driver.PROCESS, command=("true",))
    site.obey(memory, other)
    assert "memory" in (await site.leader.hears(wire.Refused, memory.attempt_id)).message
    assert "process" in (await site.leader.hears(wire.Refused, other.attempt_id)).message
    site.obey(a_stop(large))
    await site.exited(large)
    third = a_launch(resources=Resources(cpu=4, memory=2**20))
    site.obey(third)
    assert (await site.exited(third)).exit_code == 0, "what ended gave its room back before it was reported"


async def test_room_is_never_given_twice(site: Site):
    launches = [a_launch(resources=Resources(cpu=1, memory=2**20), env={"run_for": "0.3"}) for _ in range(9)]
    site.obey(*launches)
    assert len(site.agent.runs) == 4
    await site.leader.hears(wire.Refused, count=5)
    await site.leader.hears(wire.Exited, count=4)


async def test_who_is_asked_introduces_itself(site: Site):
    site.obey(wire.Introduce())
    hello = await site.leader.hears(wire.Hello)
    assert (hello.name, hello.millis, hello.memory, hello.drivers) == ("n1", 4000, 2**30, ("mock",))
    assert hello.mark
    assert site.agent.beat().hello == hello.mark, "whoever missed it can tell"
    assert site.agent.hello().mark != hello.mark


async def test_an_end_nobody_confirmed_is_told_again(site: Site):
    launch = a_launch()
    site.obey(launch)
    await site.exited(launch)
    site.agent.remind(older_than_s=60)
    await asyncio.sleep(0)
    site.agent.remind(older_than_s=-1)
    await site.leader.hears(wire.Exited, launch.attempt_id, count=2)
    site.obey(wire.Forget((launch.attempt_id,)))
    site.agent.remind(older_than_s=-1)
    last = a_launch()
    site.obey(last)
    await site.exited(last)
    told = [r for r in site.leader.heard if isinstance(r, wire.Exited) and r.attempt_id == launch.attempt_id]
    assert len(told) == 2


async def test_stopping_all_waits_for_all(site: Site):
    launches = [a_launch(env={"run_for": "60"}, stop_grace=0.0) for _ in range(5)]
    deaf = a_launch(env={"run_for": "60", "ignore_stop": "1"}, stop_grace=0.2)
    site.obey(*launches, deaf)
    await wait_until(lambda: len(site.agent.runs) == 6, "all run")
    site.agent.stop_all()
    await wait_until(site.agent.idle, "all have ended")
    assert not site.agent.runs
    assert {e.ended.cause for e in site.journal.entries.values() if e.ended} == {Cause.DRAINED}


async def test_an_agent_that_leaves_takes_no_more(site: Site):
    """What was on its way to it goes back at once: it is told as drained, not as refused."""
    site.agent.leaving = True
    launch = a_launch()
    site.obey(launch)
    told = await site.exited(launch)
    assert (told.cause, told.started_ago) == (Cause.DRAINED, None)
    assert not site.agent.runs
    assert site.agent.hello().draining


async def test_memory_of_stops_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("windlass.worker.journal.TOMBSTONES", 10)
    for _ in range(30):
        site.obey(a_stop(a_launch()))
    assert len(site.agent.bench.journal.gone) == 10
