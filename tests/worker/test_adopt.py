"""After a restart: the journal held against what the driver finds, row by row of adopt's table."""

from pathlib import Path

import pytest

from tests.api.serving import Api
from tests.support import wait_until
from tests.worker.site import a_launch, a_stop, at_work, base_of
from windlass.core.ids import ATTEMPT, JOB, AttemptId, JobId
from windlass.core.states import Cause, Driver
from windlass.driver.base import DriverFault, Ticket
from windlass.driver.keeper import Keeper
from windlass.driver.mock import MockDriver
from windlass.driver.process import ProcessDriver
from windlass.mint import new_id
from windlass.stream import wire
from windlass.worker.adopt import adopt
from windlass.worker.runner import ticket_of


@pytest.fixture
def driver(tmp_path: Path) -> MockDriver:
    return MockDriver(tmp_path / "mock")


async def test_open_and_found_is_adopted(tmp_path: Path, redis_url: str, api: Api):
    launch = a_launch(env={"run_for": "0.6", "exit_code": "9"})
    async with at_work(tmp_path, redis_url, base_of(api)) as before:
        before.obey(launch)
        await before.leader.hears(wire.Started, launch.attempt_id)
    async with at_work(tmp_path, redis_url, base_of(api)) as after:
        await adopt(after.agent, Driver.MOCK, after.agent.drivers[Driver.MOCK])
        assert after.agent.node().used.millis == 100, "its room is taken again"
        await adopt(after.agent, Driver.MOCK, after.agent.drivers[Driver.MOCK])
        assert len(after.agent.runs) == 1, "and only once"
        exited = await after.exited(launch)
        assert (exited.cause, exited.exit_code) == (Cause.EXIT_CODE, 9)
        await after.idle()
        assert after.agent.node().used.millis == 0


async def test_an_adopted_one_still_has_its_limits_and_can_be_stopped(tmp_path: Path, redis_url: str, api: Api):
    limited = a_launch(env={"run_for": "60"}, attempt_timeout=600.0)
    endless = a_launch(env={"run_for": "60"})
    async with at_work(tmp_path, redis_url, base_of(api)) as before:
        before.obey(limited, endless)
        await before.leader.hears(wire.Started, count=2)
    async with at_work(tmp_path, redis_url, base_of(api)) as after:
        after.journal.entries[limited.attempt_id].received_at -= 600
        await adopt(after.agent, Driver.MOCK, after.agent.drivers[Driver.MOCK])
        assert (await after.exited(limited)).cause is Cause.TIMEOUT
        after.obey(a_stop(endless))
        assert (await after.exited(endless)).cause is Cause.CANCELLED


async def test_one_that_was_only_created_has_its_whole_time(tmp_path: Path, redis_url: str, api: Api):
    """Simulated seed 3160: its limit was counted from its launch, a long time ago, and it was stopped at once."""
    launch = a_launch(env={"run_for": "0.1"}, attempt_timeout=300.0)
    async with at_work(tmp_path, redis_url, base_of(api)) as site:
        site.journal.launched([launch])
        site.journal.entries[launch.attempt_id].received_at -= 3600
        driver = site.agent.drivers[Driver.MOCK]
        await driver.prepare(ticket_of(launch, site.agent.bench.folder))
        await adopt(site.agent, Driver.MOCK, driver)
        assert (await site.exited(launch)).cause is None


async def test_what_was_forgotten_is_not_started_by_an_old_order(tmp_path: Path, redis_url: str, api: Api):
    """Simulated seed 2292: its order came again after a restart, and it ran a second time."""
    launch, stopped = a_launch(), a_launch()
    async with at_work(tmp_path, redis_url, base_of(api)) as before:
        before.obey(launch, a_stop(stopped))
        await before.exited(launch)
        await before.idle()
        before.obey(wire.Forget((launch.attempt_id,)))
    for _ in range(2):
        async with at_work(tmp_path, redis_url, base_of(api)) as after:
            after.obey(launch, stopped)
            assert not after.agent.runs


async def test_a_stop_is_remembered(tmp_path: Path, redis_url: str, api: Api):
    """Simulated seed 1608: its agent died within the grace, and the end was taken for a failure of the job's own."""
    deaf = a_launch(env={"run_for": "60", "ignore_stop": "1"}, stop_grace=0.3)
    async with at_work(tmp_path, redis_url, base_of(api)) as before:
        before.obey(deaf)
        await before.leader.hears(wire.Started, deaf.attempt_id)
        before.obey(a_stop(deaf, Cause.TIMEOUT))
    async with at_work(tmp_path, redis_url, base_of(api)) as after:
        await adopt(after.agent, Driver.MOCK, after.agent.drivers[Driver.MOCK])
        assert (await after.exited(deaf)).cause is Cause.TIMEOUT


async def test_open_and_not_found_is_lost_and_not_started_again(tmp_path: Path, redis_url: str, api: Api):
    launch = a_launch(env={"run_for": "60"})
    async with at_work(tmp_path, redis_url, base_of(api)) as before:
        before.obey(launch)
        await before.leader.hears(wire.Started, launch.attempt_id)
    (tmp_path / "mock" / f"{launch.attempt_id}.json").unlink()
    async with at_work(tmp_path, redis_url, base_of(api)) as after:
        await adopt(after.agent, Driver.MOCK, after.agent.drivers[Driver.MOCK])
        exited = await after.exited(launch)
        assert exited.cause is Cause.NODE_LOST
        assert "not found" in exited.message
        after.obey(launch)
        assert not after.agent.runs


async def test_ended_is_told_again_and_what_is_left_is_removed(
    tmp_path: Path, redis_url: str, api: Api, driver: MockDriver
):
    launch = a_launch(env={"exit_code": "6"})
    async with at_work(tmp_path, redis_url, base_of(api)) as before:
        before.obey(launch)
        first = await before.exited(launch)
        await before.idle()
    ticket = ticket_of(launch, tmp_path / "attempts")
    await driver.prepare(ticket)  # as after a crash between the outcome and the removal
    await driver.start(ticket)
    async with at_work(tmp_path, redis_url, base_of(api)) as after:
        await adopt(after.agent, Driver.MOCK, after.agent.drivers[Driver.MOCK])
        again = await after.exited(launch)
        assert (again.cause, again.exit_code) == (first.cause, first.exit_code) == (Cause.EXIT_CODE, 6)
        assert not after.agent.runs
        assert await driver.survivors() == []


class Stuck(MockDriver):
    """Removes nothing."""

    async def remove(self, ticket: Ticket) -> None:
        raise DriverFault(Cause.START_FAILED, "the disk is read-only")


async def test_what_can_not_be_removed_stops_nothing(tmp_path: Path, redis_url: str, api: Api):
    over, runs, strange = a_launch(), a_launch(env={"run_for": "0.5"}), a_launch(env={"run_for": "60"})
    driver = Stuck(tmp_path / "mock")
    async with at_work(tmp_path, redis_url, base_of(api), {Driver.MOCK: driver}) as before:
        before.obey(over, runs)
        await before.exited(over)
        await before.leader.hears(wire.Started, runs.attempt_id)
        await driver.prepare(ticket_of(strange, tmp_path))
        await driver.start(ticket_of(strange, tmp_path))
    async with at_work(tmp_path, redis_url, base_of(api), {Driver.MOCK: driver}) as after:
        await adopt(after.agent, Driver.MOCK, driver)
        assert (await after.exited(over)).cause is None
        assert (await after.exited(runs)).cause is None


async def test_unknown_and_found_is_ended_and_removed(tmp_path: Path, redis_url: str, api: Api, driver: MockDriver):
    await driver.open()
    strange = AttemptId(new_id(ATTEMPT))
    for env in ({"run_for": "60"}, {"run_for": "60", "ignore_stop": "1"}):
        spec = a_launch(env=env).spec
        ticket = Ticket(strange, JobId(new_id(JOB)), 1, 3, spec, tmp_path)
        await driver.prepare(ticket)
        await driver.start(ticket)
        async with at_work(tmp_path, redis_url, base_of(api)) as site:
            await adopt(site.agent, Driver.MOCK, driver)
            assert await driver.survivors() == []
            assert not site.agent.runs
            assert [r for r in await site.leader.listen() if isinstance(r, wire.Exited)] == []


async def test_a_process_goes_on_over_a_restart_and_its_exit_is_known(tmp_path: Path, redis_url: str, api: Api):
    mark = tmp_path / "marks"
    wait = f"echo begun >> '{mark}'; sleep {{}}; echo done >> '{mark}'; exit {{}}"
    launches = [
        a_launch(driver=Driver.PROCESS, command=("sh", "-c", wait.format(seconds, code)))
        for seconds, code in ((0.1, 5), (1.5, 6))
    ]
    for round in range(2):
        keeper = Keeper(tmp_path, "node_x", 60)
        driver = ProcessDriver(tmp_path / "slots", "node_x", keeper)
        async with at_work(tmp_path, redis_url, base_of(api), drivers={Driver.PROCESS: driver}) as site:
            if round == 0:
                site.obey(*launches)
                await wait_until(lambda: mark.exists() and mark.read_text().count("begun") == 2, "both have begun")
            else:
                await wait_until(lambda: "done" in mark.read_text(), "one has ended")
                await adopt(site.agent, Driver.PROCESS, driver)
                ends = [await site.exited(launch) for launch in launches]
                assert [(end.cause, end.exit_code) for end in ends] == [(Cause.EXIT_CODE, 5), (Cause.EXIT_CODE, 6)]
                assert sorted(mark.read_text().split()) == ["begun", "begun", "done", "done"]
                await site.idle()
        await keeper.close()


async def test_a_process_that_was_launched_and_never_started_is_started_now(tmp_path: Path, redis_url: str, api: Api):
    """The worker died between its journal and the start; the watchdog knows that it was not asked."""
    mark = tmp_path / "marks"
    launches = [a_launch(driver=Driver.PROCESS, command=("sh", "-c", f"echo ran >> '{mark}'; exit 5")) for _ in "ab"]
    keeper = Keeper(tmp_path, "node_x", 60)
    driver = ProcessDriver(tmp_path / "slots", "node_x", keeper)
    async with at_work(tmp_path, redis_url, base_of(api), drivers={Driver.PROCESS: driver}) as site:
        site.journal.launched(launches)
        await driver.prepare(ticket_of(launches[0], tmp_path / "attempts"))
        after = ProcessDriver(tmp_path / "slots", "node_x", keeper)
        await after.open()
        await adopt(site.agent, Driver.PROCESS, after)
        for launch in launches:
            assert (await site.exited(launch)).exit_code == 5
        await site.idle()
        assert mark.read_text() == "ran\n" * 2
    await keeper.close()
