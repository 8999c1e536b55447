"""The watchdog, as the process driver uses it: what it keeps, what it ends, and when it goes itself."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.driver.conftest import ProcessStage
from tests.driver.play import opened
from tests.support import HANG_S, wait_until
from windlass.core.ids import AttemptId
from windlass.core.states import Cause
from windlass.driver import keeper_line
from windlass.driver.base import DriverFault, EngineUnavailable, Ticket
from windlass.driver.keeper import Exit, Keeper
from windlass.driver.process import ProcessDriver
from windlass.watchdog.procfs import running
from windlass.watchdog.protocol import EXITS, FENCED, LEASE, LOCK, SOCKET
from windlass.worker import clock
from windlass.worker.lease import Lease


@pytest.fixture
def stage(tmp_path: Path) -> ProcessStage:
    return ProcessStage(tmp_path)


def watchdog_of(folder: Path) -> int | None:
    """Its process id; None once it has ended."""
    pid = (folder / LOCK).read_text().strip()
    return int(pid) if pid and running(int(pid)) else None


def lapse(lease: Lease) -> None:
    """Let the last contact be an hour ago."""
    lease._last = clock.now() - 3600
    lease._write(lease._last)


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


def written(path: Path) -> list[int]:
    """The process ids in it, none while it is not there."""
    return pids_in(path) if path.exists() else []


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
        assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 4


async def test_an_exit_nobody_heard_of_outlives_the_watchdog(stage: ProcessStage):
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 0.3; exit 9")
        pid = watchdog_of(stage.root)
    await wait_until(lambda: gone(pid or 0), "the job is over, and the watchdog has gone")
    for _ in range(2):  # it is told until it is removed
        async with kept(stage) as driver:
            (survivor,) = await driver.survivors()
            assert (survivor.attempt_id, survivor.fence, survivor.running) == (ticket.attempt_id, 7, False)
            assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 9
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
        assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 5
        await wait_until(lambda: gone(*pids_in(mark)), "nothing of it is left")


async def test_a_daemon_that_hides_ends_at_last_and_takes_no_other_job_with_it(stage: ProcessStage):
    """Nobody can tell whose it is: it ends with the last job that could have started it."""
    mark = stage.root / "mark"
    async with kept(stage) as driver:
        other = await begun(stage, driver, f"echo $$ > '{stage.root}/other'; exec sleep 300", "other")
        hiding = f"(env -i /usr/bin/setsid /bin/sh -c 'echo $$ > \"{mark}\"; exec sleep 300' &)\nsleep 0.3"
        ticket = await begun(stage, driver, hiding)
        await asyncio.wait_for(driver.wait(ticket), HANG_S)
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
        assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 6


async def test_without_contact_all_is_ended_and_nothing_starts_until_there_is_some(stage: ProcessStage):
    lease = Lease(stage.root, 60)
    lease.contact(clock.now())
    mark = stage.root / "mark"
    script = f"echo $$ >> '{mark}'; setsid sleep 300 & echo $! >> '{mark}'; wait"
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, script)
        assert not lease.ended_by_watchdog(ticket.attempt_id)
        lapse(lease)
        assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 137
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
        assert (await asyncio.wait_for(driver.wait(again), HANG_S)).exit_code == 3
    assert (stage.root / FENCED).read_text().split() == [ticket.attempt_id]
    lease.close()


async def test_contact_keeps_jobs_alive_and_its_moment_is_before_it_was_asked_for(stage: ProcessStage):
    lease = Lease(stage.root, 4.0)
    async with kept(stage, 4.0) as driver:
        lease.contact(clock.now())
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 6; exit 2")
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
            return (await asyncio.wait_for(driver.wait(after), HANG_S)).exit_code == 3

        assert await starts()
        (survivor,) = [one for one in await driver.survivors() if one.attempt_id == ticket.attempt_id]
        assert survivor.running
        (stage.root / "go").touch()
        outcome = await asyncio.wait_for(driver.wait(ticket), HANG_S)
        assert (outcome.exit_code, outcome.cause) == (None, Cause.NODE_LOST)


async def test_what_a_dead_watchdog_kept_is_fenced_by_the_next(stage: ProcessStage):
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; exec sleep 300")
        os.kill(watchdog_of(stage.root) or 0, signal.SIGKILL)
    lease = Lease(stage.root, 60)
    async with kept(stage) as driver:
        assert [one.running for one in await driver.survivors()] == [True]
        lapse(lease)
        await wait_until(lambda: gone(*pids_in(stage.root / "mark")), "it is ended")
        assert lease.ended_by_watchdog(ticket.attempt_id)
    lease.close()


@asynccontextmanager
async def asked(
    stage: ProcessStage, driver: ProcessDriver, script: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Ticket, "asyncio.Task[None]", int]]:
    """A start that the watchdog, stopped, does not answer in time; the watchdog goes on afterwards."""
    dog = watchdog_of(stage.root) or 0
    os.kill(dog, signal.SIGSTOP)
    ticket = stage.ticket(stage.shell(script))
    await driver.prepare(ticket)
    with monkeypatch.context() as hasty:
        hasty.setattr(keeper_line, "CALL_S", 0.3)
        start = asyncio.create_task(driver.start(ticket))
        await wait_until(lambda: _unavailable(driver), "it says that it offers nothing")
    yield ticket, start, dog
    if running(dog):
        os.kill(dog, signal.SIGCONT)


async def test_an_end_that_comes_with_the_greeting_is_heard(tmp_path: Path):
    """What was started as the connection broke may have ended as the next one was greeted."""
    kept = {"attempt": "att_1", "pid": 1, "fence": 1, "exit": None}
    end = {"end": "att_1", "code": 7, "signalled": False}

    let_go = asyncio.Event()

    async def greet(asked: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        out.write(b"".join(json.dumps(line).encode() + b"\n" for line in ({"since": 1.0, "kept": [kept]}, end)))
        await asked.read()
        out.close()
        let_go.set()

    async with await asyncio.start_unix_server(greet, tmp_path / SOCKET):
        keeper = Keeper(tmp_path, "n", 60)
        await keeper.open()
        assert await asyncio.wait_for(keeper.processes[AttemptId("att_1")].done, HANG_S) == Exit(7, False)
        await keeper.close()
        await let_go.wait()


async def test_a_start_that_a_hung_watchdog_answers_too_late_has_begun(
    stage: ProcessStage, monkeypatch: pytest.MonkeyPatch
):
    async with kept(stage) as driver:
        early = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 1; exit 8")
        async with asked(stage, driver, f"echo $$ >> '{stage.root}/late'; exit 7", monkeypatch) as (late, start, _):
            assert not start.done()
        await asyncio.wait_for(start, HANG_S)
        await wait_until(lambda: _available(driver), "it is back")
        assert (await asyncio.wait_for(driver.wait(late), HANG_S)).exit_code == 7
        assert len(pids_in(stage.root / "late")) == 1
        assert (await asyncio.wait_for(driver.wait(early), HANG_S)).exit_code == 8


async def test_a_start_given_up_while_the_watchdog_hangs_leaves_nothing(
    stage: ProcessStage, monkeypatch: pytest.MonkeyPatch
):
    async with kept(stage) as driver:
        early = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 30")
        async with asked(stage, driver, f"echo $$ > '{stage.root}/late'; sleep 30", monkeypatch) as (late, start, _):
            start.cancel()
            await asyncio.wait([start])
        await wait_until(lambda: _available(driver), "it is back")
        await wait_until(lambda: gone(*written(stage.root / "late")), "it is ended")
        await driver.remove(late)
        assert [one.attempt_id for one in await driver.survivors()] == [early.attempt_id]


async def test_a_start_asked_of_a_watchdog_that_dies_is_lost_to_the_node(
    stage: ProcessStage, monkeypatch: pytest.MonkeyPatch
):
    async with kept(stage) as driver:
        async with asked(stage, driver, f"echo $$ > '{stage.root}/late'", monkeypatch) as (_, start, dog):
            os.kill(dog, signal.SIGKILL)
        with pytest.raises(DriverFault) as fault:
            await asyncio.wait_for(start, HANG_S)
        assert fault.value.cause is Cause.NODE_LOST
        assert not (stage.root / "late").exists()


@pytest.mark.parametrize("dies", [False, True], ids=["it lives on", "it dies"])
async def test_a_process_whose_start_was_answered_to_nobody_is_found(
    stage: ProcessStage, monkeypatch: pytest.MonkeyPatch, dies: bool
):
    async with kept(stage) as driver:
        monkeypatch.setattr(keeper_line, "CALL_S", 1.0)
        monkeypatch.setattr(keeper_line, "ANSWER", "nothing of this name")
        ticket = stage.ticket(stage.shell(f"echo $$ > '{stage.root}/mark'; sleep 2; exit 7"))
        await driver.prepare(ticket)
        start = asyncio.create_task(driver.start(ticket))
        await wait_until(lambda: written(stage.root / "mark"), "it runs")
        assert not start.done()
        if dies:
            os.kill(watchdog_of(stage.root) or 0, signal.SIGKILL)
        await asyncio.wait_for(start, HANG_S)
        end = await asyncio.wait_for(asyncio.gather(driver.wait(ticket), return_exceptions=True), HANG_S)
        if dies:
            assert [getattr(one, "cause", one) for one in end] == [Cause.NODE_LOST], end
        else:
            assert [getattr(one, "exit_code", one) for one in end] == [7], end


async def _available(driver: ProcessDriver) -> bool:
    return (await driver.facts()).available


async def _unavailable(driver: ProcessDriver) -> bool:
    return not await _available(driver)


async def test_a_lease_that_somebody_removed_is_written_anew(stage: ProcessStage):
    lease = Lease(stage.root, 4.0)
    lease.contact(clock.now())
    async with kept(stage, 4.0) as driver:
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 6; exit 2")
        (stage.root / LEASE).unlink()
        waiting = asyncio.create_task(driver.wait(ticket))
        while not waiting.done():
            lease.contact(clock.now())
            await asyncio.wait([waiting], timeout=0.1)
        assert waiting.result().exit_code == 2
    lease.close()


async def test_a_lease_that_cannot_be_written_counts_for_nothing(stage: ProcessStage):
    folder = stage.root / "gone"
    lease = Lease(folder, 0.0)
    (folder / LEASE).unlink()
    folder.rmdir()
    lease.contact(clock.now())
    assert lease.stale
    assert lease.fault == "can't write worker.data: No such file or directory"
    folder.mkdir()
    lease.contact(clock.now())
    assert not lease.fault
    assert (folder / LEASE).exists()
    lease.close()


async def test_half_a_line_of_exits_ends_no_watchdog(stage: ProcessStage):
    """What a full disk, or a power cut, left of the file."""
    (stage.root / EXITS).write_bytes(b'["att_1", 7, 3, false]\n[1]\n\xff\n["att_2", 7')
    async with kept(stage) as driver:
        assert [one.attempt_id for one in await driver.survivors()] == ["att_1"]


async def test_a_socket_that_somebody_removed_is_made_anew(stage: ProcessStage):
    """Else the next agent could not take over what runs."""
    async with kept(stage) as driver:
        ticket = await begun(stage, driver, f"echo $$ > '{stage.root}/mark'; sleep 300")
        pid = watchdog_of(stage.root)
        (stage.root / SOCKET).unlink()
        await wait_until((stage.root / SOCKET).exists, "there is one again")
    async with kept(stage) as driver:
        assert [one.attempt_id for one in await driver.survivors()] == [ticket.attempt_id]
        assert watchdog_of(stage.root) == pid
        await driver.stop(ticket, 0.0)
        await driver.remove(ticket)


async def test_a_node_that_has_no_place_for_a_job_does_not_blame_the_job(stage: ProcessStage):
    async with kept(stage) as driver:
        (stage.root / "slots").write_text("")
        with pytest.raises(EngineUnavailable, match="folder"):
            await driver.prepare(stage.ticket(stage.exits(0)))


async def test_a_folder_with_a_long_name_has_one_too(tmp_path: Path):
    deep = tmp_path / ("long " * 30)
    deep.mkdir()
    async with opened(ProcessStage(deep).driver()) as driver:
        assert (await driver.facts()).available


async def test_what_is_let_go_while_it_is_being_reached_stays_let_go(stage: ProcessStage):
    """Else the connection that is made a moment later is nobody's, for ever."""
    async with kept(stage):
        dog = watchdog_of(stage.root) or 0
        os.kill(dog, signal.SIGSTOP)
        try:
            keeper = Keeper(stage.root, stage.node, 60)
            opening = asyncio.create_task(keeper.open())
            await asyncio.sleep(0)  # it has connected: nobody has greeted it yet
            await keeper.close()
        finally:
            os.kill(dog, signal.SIGCONT)
        with pytest.raises(EngineUnavailable, match="let go"):
            await opening
        assert not keeper.connected
