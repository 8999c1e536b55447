"""One attempt's life: limits, faults, and stops at every moment of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import wait_until
from tests.worker.site import Site, a_launch, a_stop, at_work
from windlass.core.states import Cause, Driver
from windlass.driver.base import DriverFault, EngineUnavailable, Outcome, Ticket
from windlass.driver.mock import MockDriver
from windlass.stream import wire
from windlass.worker import clock, runner
from windlass.worker.lease import Lease


class Staged(MockDriver):
    """Plays attempts with the failures and waits a test sets."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.prepare_waits, self.start_waits, self.wait_waits = Gate(), Gate(), Gate()
        self.stops = self.stop_faults = 0
        self.fault: Exception | None = None
        self.remove_fault: Exception | None = None
        self.blocks_s = 0.0
        self.removed: list[str] = []

    async def prepare(self, ticket: Ticket) -> None:
        await self.prepare_waits.passed()
        if self.fault:
            raise self.fault
        await super().prepare(ticket)

    async def start(self, ticket: Ticket) -> None:
        await self.start_waits.passed()
        await super().start(ticket)
        time.sleep(self.blocks_s)

    async def wait(self, ticket: Ticket) -> Outcome:
        await self.wait_waits.passed()
        return await super().wait(ticket)

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        """An engine that is away for so many tries."""
        self.stops += 1
        if self.stops <= self.stop_faults:
            raise EngineUnavailable("the engine does not answer")
        await super().stop(ticket, grace_s)

    async def remove(self, ticket: Ticket) -> None:
        self.removed.append(ticket.attempt_id)
        if self.remove_fault:
            raise self.remove_fault
        await super().remove(ticket)


@dataclass
class Gate:
    """Open until it is shut; tells whether someone waits at it."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    shut: bool = False
    waiting: bool = False

    async def passed(self) -> None:
        if self.shut:
            self.waiting = True
            await self.open.wait()


@pytest.fixture
def driver(tmp_path: Path) -> Staged:
    return Staged(tmp_path / "mock")


@pytest.fixture
async def site(tmp_path: Path, redis_url: str, driver: Staged, anyio_backend: str) -> AsyncIterator[Site]:
    async with at_work(tmp_path, redis_url, drivers={Driver.MOCK: driver}) as working:
        yield working


async def test_the_attempts_own_limit(site: Site):
    launch = a_launch(env={"run_for": "60"}, attempt_timeout=0.2)
    site.obey(launch)
    exited = await site.exited(launch)
    assert (exited.cause, exited.exit_code) == (Cause.TIMEOUT, 143)
    assert "attempt_timeout of 0.2 s" in exited.message
    assert exited.started_ago is not None
    assert exited.started_ago - exited.ago >= 0.19


@pytest.mark.parametrize("faults", [0, 2], ids=["", "the engine is away, too"])
@pytest.mark.parametrize(("code", "cause"), [(0, None), (6, Cause.EXIT_CODE)])
async def test_what_ended_in_time_is_no_timeout(
    site: Site, driver: Staged, monkeypatch: pytest.MonkeyPatch, code: int, cause: Cause | None, faults: int
):
    """Who waits for it stood still meanwhile, and hears of the limit first."""
    monkeypatch.setattr(runner, "STOP_AGAIN_S", 0.02)
    driver.wait_waits.shut, driver.stop_faults = True, faults
    launch = a_launch(env={"run_for": "0.1", "exit_code": str(code)}, attempt_timeout=0.3)
    site.obey(launch)
    await wait_until(lambda: driver.stops > faults, "the limit has passed")
    driver.wait_waits.open.set()
    exited = await site.exited(launch)
    assert (exited.cause, exited.exit_code) == (cause, code)


async def test_a_limit_that_passes_while_the_engine_is_away_is_kept(
    site: Site, driver: Staged, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "STOP_AGAIN_S", 0.02)
    driver.stop_faults = 3
    launch = a_launch(env={"run_for": "60"}, attempt_timeout=0.2)
    site.obey(launch)
    exited = await site.exited(launch)
    assert (exited.cause, exited.exit_code, driver.stops) == (Cause.TIMEOUT, 143, 4)


async def test_who_asks_again_need_not_wait_for_the_next_try(
    site: Site, driver: Staged, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "STOP_AGAIN_S", 60.0)
    driver.stop_faults = 1
    launch = a_launch(env={"run_for": "60"})
    site.obey(launch)
    await site.leader.hears(wire.Started, launch.attempt_id)
    site.obey(a_stop(launch))
    await wait_until(lambda: driver.stops == 1, "the engine was away")
    site.obey(a_stop(launch))
    assert (await site.exited(launch)).cause is Cause.CANCELLED


async def test_who_ran_past_its_limit_while_the_engine_was_away_is_a_timeout(site: Site, driver: Staged):
    driver.wait_waits.shut, driver.stop_faults = True, 100
    launch = a_launch(env={"run_for": "0.4"}, attempt_timeout=0.2)
    site.obey(launch)
    await wait_until(lambda: driver.stops > 0, "the limit has passed")
    driver.wait_waits.open.set()
    exited = await site.exited(launch)
    assert (exited.cause, exited.exit_code) == (Cause.TIMEOUT, 0)


async def test_the_jobs_deadline(site: Site):
    launch = a_launch(env={"run_for": "60"}, job_deadline=30.0, deadline_in=0.2)
    site.obey(launch)
    exited = await site.exited(launch)
    assert exited.cause is Cause.TIMEOUT
    assert "job_deadline of 30 s" in exited.message


async def test_a_deadline_that_has_passed_already(site: Site):
    launch = a_launch(env={"run_for": "60"}, job_deadline=30.0, deadline_in=-5.0)
    site.obey(launch)
    assert (await site.exited(launch)).cause is Cause.TIMEOUT


async def test_a_preparation_that_takes_too_long(site: Site, driver: Staged):
    driver.prepare_waits.shut = True
    launch = a_launch(start_timeout=0.1)
    site.obey(launch)
    exited = await site.exited(launch)
    assert (exited.cause, exited.started_ago) == (Cause.TIMEOUT, None)
    assert "start_timeout of 0.1 s" in exited.message
    await site.idle()
    assert driver.removed == [launch.attempt_id]


async def test_what_started_at_the_last_moment_is_not_left_alone(site: Site, driver: Staged):
    """The limit passes in the very moment the start succeeds: it runs, so it is waited for."""
    driver.blocks_s = 3.2
    launch = a_launch(env={"run_for": "3.5", "exit_code": "4"}, start_timeout=3.0)
    site.obey(launch)
    exited = await site.exited(launch)
    assert (exited.cause, exited.exit_code) == (Cause.EXIT_CODE, 4)


async def test_a_stop_while_it_is_prepared(site: Site, driver: Staged):
    driver.prepare_waits.shut = True
    launch = a_launch(env={"run_for": "60"})
    site.obey(launch)
    await wait_until(lambda: driver.prepare_waits.waiting, "it is being prepared")
    site.obey(a_stop(launch))
    exited = await site.exited(launch)
    assert (exited.cause, exited.started_ago) == (Cause.CANCELLED, None)
    await site.idle()
    assert driver.removed == [launch.attempt_id]


async def test_a_stop_while_it_is_started(site: Site, driver: Staged):
    driver.start_waits.shut = True
    launch = a_launch(env={"run_for": "60"})
    site.obey(launch)
    await wait_until(lambda: driver.start_waits.waiting, "it is being started")
    site.obey(a_stop(launch))
    await asyncio.sleep(0.05)  # the driver finds nothing to stop yet
    driver.start_waits.open.set()
    exited = await site.exited(launch)
    assert (exited.cause, exited.exit_code) == (Cause.CANCELLED, 143)


@pytest.mark.parametrize(("fault", "cause"), [("image_pull", Cause.IMAGE_PULL), ("start_failed", Cause.START_FAILED)])
async def test_faults_of_the_driver_are_the_attempts_causes(site: Site, driver: Staged, fault: str, cause: Cause):
    launch = a_launch(env={"fault": fault})
    site.obey(launch)
    exited = await site.exited(launch)
    assert (exited.cause, exited.started_ago) == (cause, None)
    assert exited.message
    await site.idle()
    assert driver.removed == [launch.attempt_id]


async def test_an_engine_that_is_away_is_a_refusal(site: Site, driver: Staged):
    driver.fault = EngineUnavailable("the engine is away")
    launch = a_launch()
    site.obey(launch)
    refused = await site.leader.hears(wire.Refused, launch.attempt_id)
    assert refused.message == "the engine is away"
    await site.idle()
    assert site.agent.node().free == site.agent.me.capacity


async def test_a_mistake_of_ours_ends_the_attempt_and_nothing_else(site: Site, driver: Staged):
    driver.fault = RuntimeError("a bug")
    launch = a_launch()
    site.obey(launch)
    exited = await site.exited(launch)
    assert exited.cause is Cause.START_FAILED
    assert "a bug" in exited.message
    driver.fault = None
    after = a_launch()
    site.obey(after)
    assert (await site.exited(after)).cause is None


async def test_what_can_not_be_removed_is_told_all_the_same(site: Site, driver: Staged):
    driver.remove_fault = DriverFault(Cause.START_FAILED, "x")
    launch = a_launch()
    site.obey(launch)
    assert (await site.exited(launch)).cause is None
    await site.idle()


async def test_what_can_not_be_removed_now_is_removed_later(site: Site, driver: Staged):
    """Simulated seed 444: an engine that was away for three seconds, which nobody noticed, left containers for good."""
    driver.remove_fault = EngineUnavailable("x")
    launch = a_launch()
    site.obey(launch)
    assert (await site.exited(launch)).cause is None
    driver.remove_fault = None
    await site.idle()
    assert not await driver.survivors()


async def test_a_deaf_one_is_killed_after_the_grace(site: Site):
    launch = a_launch(env={"run_for": "60", "ignore_stop": "1"}, stop_grace=0.3)
    site.obey(launch)
    await site.leader.hears(wire.Started, launch.attempt_id)
    began = time.monotonic()
    site.obey(a_stop(launch))
    assert (await site.exited(launch)).exit_code == 137
    assert time.monotonic() - began > 0.25


async def test_the_outcome_is_in_the_journal_before_it_is_told(site: Site):
    launch = a_launch(env={"exit_code": "2"})
    site.obey(launch)
    await site.exited(launch)
    lines = (site.folder / "journal.jsonl").read_text()
    assert f'"attempt":"{launch.attempt_id}","ended"' in lines


@pytest.mark.parametrize("watched", [True, False])
async def test_what_no_watchdog_ends_the_agent_ends_once_its_node_is_cut_off(site: Site, driver: Staged, watched: bool):
    driver.watched = watched
    lease = Lease(site.folder / "lease", 0.2)
    lease.contact(clock.now())
    object.__setattr__(site.agent.bench, "lease", lease)
    launch = a_launch(env={"run_for": "60"}, stop_grace=60)
    site.obey(launch)
    await site.leader.hears(wire.Started, launch.attempt_id)
    lease.contact(clock.now())
    site.agent.fence()
    assert site.agent.runs[launch.attempt_id]._stop is None
    await wait_until(lambda: lease.stale, "it is cut off")
    site.agent.fence()
    if watched:
        assert site.agent.runs[launch.attempt_id]._stop is None
    else:
        exited = await site.exited(launch)
        assert (exited.cause, exited.message) == (
            Cause.NODE_LOST,
            "ended by its worker: no word from Redis or the API for 0.2 s",
        )
    lease.close()
