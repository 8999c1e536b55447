"""The watchdog, as the process driver uses it: what it keeps, what it ends, and when it goes itself."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.driver.conftest import ProcessStage
from tests.driver.play import opened
from tests.support import wait_until
from windlass.core.states import Cause
from windlass.driver import keeper_line
from windlass.driver.base import EngineUnavailable, Ticket
from windlass.driver.keeper import Keeper
from windlass.driver.process import ProcessDriver
from windlass.watchdog.procfs import running
from windlass.watchdog.protocol import FENCED, LOCK, SOCKET
from windlass.worker import clock
from windlass.worker.lease import Lease

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def stage(tmp_path: Path) -> ProcessStage:
    return ProcessStage(tmp_path)


def watchdog_of(folder: Path) -> int | None:
    """Its process id; None once it has ended."""
    pid = (folder / LOCK).read_text().strip()
    return int(pid) if pid and running(int(pid)) else None


@asynccontextmanager
async def kept(stage: ProcessStage, limit_s: float = 60) -> AsyncIterator[ProcessDriver]:
    keeper = Keeper(stage.root, stage.node, limit_s)
    driver = ProcessDriver(stage.root / "slots", stage.node, keeper)
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()
        await keeper.close()


async def begun(stage: ProcessStage, driver: ProcessDriver, script: str, mark: str = "mark") -> Ticket:
    """A job that has written its mark."""
    ticket = stage.ticket(stage.shell(script))
    await driver.prepare(ticket)
    await driver.start(ticket)
    await wait_until(lambda: (stage.root / mark).exists() and (stage.root / mark).read_text(), "it runs")
    return ticket


def pids_in(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()]


def gone(*pids: int) -> bool:
    return not any(map(running, pids))


async def test_it_is_small_and_loads_nothing_of_others(stage: ProcessStage):
    async with kept(stage):
        pid = watchdog_of(stage.root)
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        assert resident < 15 * 1024, f"{resident} KiB"
        assert "site-packages" not in Path(f"/proc/{pid}/maps").read_text()
        assert os.getsid(pid or 0) == pid or os.getsid(pid or 0) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"


async def test_one_for_a_folder_and_it_goes_when_nothing_is_left(stage: ProcessStage):
    async with kept(stage), kept(stage):
        pid = watchdog_of(stage.root)
        assert pid is not None
    await wait_until(lambda: gone(pid), "it has ended")
    async with kept(stage):
        assert watchdog_of(stage.root) not in (None, pid)


async def test_polite_signals_and_rubbish_do_not_end_it(stage: ProcessStage):
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 0.5; exit 4")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(watchdog_of(stage.root) or 0, number)
        for rubbish in (b"\n", b"{}\n", b"[1]\n", b'{"op": "spawn", "n": 1}\n', b'{"op": "dance"}\n', b"\xff\xfe\n"):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(os.path.relpath(stage.root / SOCKET))
                stranger.sendall(rubbish)
        assert (await asyncio.wait_for(driver.wait(ticket), 10)).exit_code == 4


async def test_an_exit_nobody_heard_of_outlives_the_watchdog(stage: ProcessStage):
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 0.3; exit 9")
        pid = watchdog_of(stage.root)
    await wait_until(lambda: gone(pid or 0), "the job is over, and the watchdog has gone")
    for _ in range(2):  # it is told until it is removed
        async with kept(stage) as driver:
            (survivor,) = await driver.survivors()
            assert (survivor.attempt_id, survivor.fence, survivor.running) == (ticket.attempt_id, 7, False)
            assert (await asyncio.wait_for(driver.wait(ticket), 5)).exit_code == 9
        await wait_until(lambda: watchdog_of(stage.root) is None, "it has gone again")
    async with kept(stage) as driver:
        await driver.remove(ticket)
    await wait_until(lambda: watchdog_of(stage.root) is None, "it has gone for good")
    async with kept(stage) as driver:
        assert await driver.survivors() == []


DAEMONS = {
    "a session of its own": "setsid sleep 300 & echo $! >> MARK",
    "two forks and a session": "(setsid sh -c 'sleep 300 & echo $! >> MARK' &)",
    "no environment": "(env -i /usr/bin/setsid /bin/sh -c 'echo $$ >> MARK; exec sleep 300' &)",
    "a family": "setsid sh -c 'setsid sleep 300 & echo $! >> MARK; sleep 300' & echo $! >> MARK",
    "deaf": "nohup setsid sh -c 'trap \"\" TERM HUP; echo $$ >> MARK; while :; do sleep 1; done' > /dev/null 2>&1 &",
}


@pytest.mark.parametrize("script", DAEMONS.values(), ids=DAEMONS)
async def test_a_daemon_ends_with_its_job(stage: ProcessStage, script: str):
    mark = stage.root / "mark"
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, f"{script}\nsleep 0.5; exit 5".replace("MARK", f'"{mark}"'))
        assert not gone(*pids_in(mark))
        assert (await asyncio.wait_for(driver.wait(ticket), 10)).exit_code == 5
        await wait_until(lambda: gone(*pids_in(mark)), "nothing of it is left")


async def test_a_daemon_that_hides_ends_at_last_and_takes_no_other_job_with_it(stage: ProcessStage):
    """Nobody can tell whose it is: it ends with the last job that could have started it."""
    mark = stage.root / "mark"
    async with kept(stage) as driver:
        other = await begun(stage, driver, f"echo $$ > '{stage.root}/other'; exec sleep 300", "other")
        hiding = f"(env -i /usr/bin/setsid /bin/sh -c 'echo $$ > \"{mark}\"; exec sleep 300' &)\nsleep 0.3"
        ticket = await begun(stage, driver, hiding)
        await asyncio.wait_for(driver.wait(ticket), 10)
        assert not gone(*pids_in(mark)), "the other job may be its owner"
        assert not gone(*pids_in(stage.root / "other"))
        await driver.stop(other, 1)
        await wait_until(lambda: gone(*pids_in(mark)), "it is ended")


async def test_children_of_a_job_that_ends_while_the_agent_is_away_end_too(stage: ProcessStage):
    mark = stage.root / "mark"
    async with kept(stage) as driver:
        script = f"sleep 300 & echo $! >> '{mark}'; setsid sleep 300 & echo $! >> '{mark}'; sleep 0.3; exit 6"
        ticket = await begun(stage, driver, script)
    await wait_until(lambda: gone(*pids_in(mark)), "its children have ended with it")
    async with kept(stage) as driver:
        assert (await asyncio.wait_for(driver.wait(ticket), 5)).exit_code == 6


async def test_without_contact_all_is_ended_and_nothing_starts_until_there_is_some(stage: ProcessStage):
    lease = Lease(stage.root, 1.0)
    lease.contact(clock.now())
    mark = stage.root / "mark"
    script = f"echo $$ >> '{mark}'; setsid sleep 300 & echo $! >> '{mark}'; wait"
    async with kept(stage, 1.0) as driver:
        ticket = await begun(stage, driver, script)
        assert not lease.ended_by_watchdog(ticket.attempt_id)
        assert (await asyncio.wait_for(driver.wait(ticket), 5)).exit_code == 137
        assert lease.ended_by_watchdog(ticket.attempt_id)
        assert lease.stale
        await wait_until(lambda: gone(*pids_in(mark)), "all of it has ended")
        refused = stage.ticket(stage.exits(0))
        await driver.prepare(refused)
        with pytest.raises(EngineUnavailable, match="cut off"):
            await driver.start(refused)
        lease.contact(clock.now())
        assert not lease.stale
        again = stage.ticket(stage.exits(3))
        await driver.prepare(again)
        await driver.start(again)
        assert (await asyncio.wait_for(driver.wait(again), 5)).exit_code == 3
    assert (stage.root / FENCED).read_text().split() == [ticket.attempt_id]
    lease.close()


async def test_contact_keeps_jobs_alive_and_its_moment_is_before_it_was_asked_for(stage: ProcessStage):
    lease = Lease(stage.root, 0.8)
    async with kept(stage, 0.8) as driver:
        lease.contact(clock.now())
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 2; exit 2")
        waiting = asyncio.create_task(driver.wait(ticket))
        while not waiting.done():
            lease.contact(clock.now())
            await asyncio.wait([waiting], timeout=0.1)
        assert waiting.result().exit_code == 2
    now = clock.now()
    lease.contact(now - 10)  # an answer to what was asked before a long sleep is no news
    assert not lease.stale
    lease.close()


async def test_a_watchdog_that_dies_is_replaced_and_its_jobs_are_lost_when_they_end(stage: ProcessStage):
    async with kept(stage) as driver:
        ticket = await begun(
            stage, driver, f"echo $$ > '{stage.root}/mark'; while [ ! -e ../../../go ]; do sleep 0.05; done"
        )
        first = watchdog_of(stage.root) or 0
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: watchdog_of(stage.root) not in (None, first), "there is another one")
        assert not gone(*pids_in(stage.root / "mark"))

        async def starts() -> bool:
            after = stage.ticket(stage.exits(3))
            await driver.prepare(after)
            await driver.start(after)
            return (await asyncio.wait_for(driver.wait(after), 5)).exit_code == 3

        assert await starts()
        (survivor,) = [one for one in await driver.survivors() if one.attempt_id == ticket.attempt_id]
        assert survivor.running
        (stage.root / "go").touch()
        outcome = await asyncio.wait_for(driver.wait(ticket), 5)
        assert (outcome.exit_code, outcome.cause) == (None, Cause.NODE_LOST)


async def test_what_a_dead_watchdog_kept_is_fenced_by_the_next(stage: ProcessStage):
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; exec sleep 300")
        os.kill(watchdog_of(stage.root) or 0, signal.SIGKILL)
    lease = Lease(stage.root, 1.0)
    async with kept(stage, 1.0) as driver:
        assert [one.running for one in await driver.survivors()] == [True]
        await wait_until(lambda: gone(*pids_in(stage.root / "mark")), "it is ended")
        assert lease.ended_by_watchdog(ticket.attempt_id)
    lease.close()


async def test_a_watchdog_that_hangs_offers_nothing_and_starts_nothing_late(
    stage: ProcessStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keeper_line, "CALL_S", 0.3)
    async with kept(stage) as driver:
        running = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 1; exit 8")
        dog = watchdog_of(stage.root) or 0
        os.kill(dog, signal.SIGSTOP)
        late = stage.ticket(stage.shell(f"touch '{stage.root}/late'; exec sleep 300"))
        await driver.prepare(late)
        with pytest.raises(EngineUnavailable, match="does not answer"):
            await driver.start(late)
        await wait_until(lambda: _unavailable(driver), "it says so")
        os.kill(dog, signal.SIGCONT)
        await wait_until(lambda: _available(driver), "it is back")
        await driver.remove(late)
        assert (await asyncio.wait_for(driver.wait(running), 5)).exit_code == 8
        assert [one.attempt_id for one in await driver.survivors()] == [running.attempt_id]


async def _available(driver: ProcessDriver) -> bool:
    return (await driver.facts()).available


async def _unavailable(driver: ProcessDriver) -> bool:
    return not await _available(driver)


async def test_a_folder_with_a_long_name_has_one_too(tmp_path: Path):
    deep = tmp_path / ("long " * 30)
    deep.mkdir()
    async with opened(ProcessStage(deep).driver()) as driver:
        assert (await driver.facts()).available
