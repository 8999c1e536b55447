"""An engine that dies, restarts or hangs. A second engine of our own is started for this; the node's is left alone."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.driver.conftest import DockerStage, docker_command
from tests.driver.play import follow, opened, run
from tests.engine import OwnEngine, own_engine
from tests.support import HANG_S, wait_until
from windlass.core.states import Cause
from windlass.driver.base import DriverFault, EngineUnavailable, Outcome, Ticket
from windlass.driver.docker import DockerDriver
from windlass.driver.docker_engine import Engine, negotiate


@pytest.fixture
def engine() -> Iterator[OwnEngine]:
    with own_engine() as own:
        yield own


@pytest.mark.docker
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_the_engine_takes_down_with_itself_is_lost_to_the_node(engine: OwnEngine, tmp_path, how):
    async def scenario():
        stage = DockerStage(tmp_path, url=engine.url)
        async with opened(stage.driver()) as driver:
            plain = stage.ticket(stage.shell("while true; do echo tick; sleep 0.1; done"))
            polite = stage.ticket(stage.shell("trap 'exit 3' TERM; while true; do sleep 0.1; done"))
            done = stage.ticket(stage.exits(7))
            for ticket in (plain, polite, done):
                await driver.prepare(ticket)
                await driver.start(ticket)
            assert (await asyncio.wait_for(driver.wait(done), HANG_S)).exit_code == 7
            ends = [asyncio.create_task(driver.wait(ticket)) for ticket in (plain, polite)]
            at: dict[str, int] = {}
            output = asyncio.create_task(_follow(driver, plain, at))
            await wait_until(lambda: at, "output of the first container")
            await asyncio.to_thread(engine.end, how)
            facts = await driver.facts()
            assert not facts.available
            assert "Docker Engine" in facts.detail
            with pytest.raises(EngineUnavailable):
                await driver.start(stage.ticket(stage.exits(0)))
            engine.start()
            faults = await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), HANG_S)
            assert [getattr(fault, "cause", fault) for fault in faults] == [Cause.NODE_LOST] * 2, faults
            await wait_until(lambda: _available(driver), "the engine is back")
            await asyncio.wait_for(output, HANG_S)
            assert (await run(stage, driver, stage.ticket(stage.exits(8)))).exit_code == 8

    asyncio.run(scenario())


@pytest.mark.docker
@pytest.mark.parametrize("fault", ["stopped", "killed", "power cut"])
def test_what_the_engine_takes_down_while_its_worker_is_away_is_lost_to_the_node(
    engine: OwnEngine, tmp_path: Path, fault: str
):
    async def scenario():
        stage = DockerStage(tmp_path, url=engine.url)
        endless = stage.ticket(stage.shell("while true; do sleep 0.1; done"))
        failed = stage.ticket(stage.exits(7))
        async with opened(stage.driver()) as driver:
            for ticket in (endless, failed):
                await driver.prepare(ticket)
                await driver.start(ticket)
            assert (await asyncio.wait_for(driver.wait(failed), HANG_S)).exit_code == 7
        match fault:
            case "stopped":
                await asyncio.to_thread(engine.end, signal.SIGTERM)
            case "killed":
                await asyncio.to_thread(engine.end, signal.SIGKILL)
            case _:
                await asyncio.to_thread(engine.cut_power)
        engine.start()
        await wait_until(engine.answers, "the engine is up")
        async with opened(stage.driver()) as driver:
            end = await asyncio.wait_for(driver.wait(endless), HANG_S)
            assert end.cause is Cause.NODE_LOST
            assert end.exit_code == 255 if fault == "power cut" else end.exit_code in (137, 143), "its code is kept"
            own = await asyncio.wait_for(driver.wait(failed), HANG_S)
            assert (own.cause, own.exit_code) == (Cause.EXIT_CODE, 7)

    asyncio.run(scenario())


@pytest.mark.docker
def test_what_dies_by_itself_while_its_worker_is_away_is_its_own_failure(docker: DockerStage):
    """The engine remembers that it started it, so it was not the engine that took it down."""

    async def scenario():
        scripts = ("sleep 0.3; kill -SEGV $$", "sleep 0.3; exit 255", "sleep 0.3; exit 4")
        tickets = [docker.ticket(docker.shell(script)) for script in scripts]
        async with opened(docker.driver()) as driver:
            for ticket in tickets:
                await driver.prepare(ticket)
                await driver.start(ticket)
        await wait_until(lambda: _ended(tickets), "all have ended")
        again = [*tickets, *(replace(ticket, rebooted=True) for ticket in tickets)]
        async with opened(docker.driver()) as driver:
            ends = [await asyncio.wait_for(driver.wait(ticket), HANG_S) for ticket in again]
        own = [(Cause.SIGNAL, 139), (Cause.EXIT_CODE, 255), (Cause.EXIT_CODE, 4)]
        assert [(end.cause, end.exit_code) for end in ends[:3]] == own
        assert [(end.cause, end.exit_code) for end in ends[3:]] == [(Cause.NODE_LOST, code) for _, code in own]

    asyncio.run(scenario())


def _ended(tickets: list[Ticket]) -> bool:
    states = docker_command("inspect", "-f", "{{.State.Status}}", *(ticket.attempt_id for ticket in tickets))
    return set(states.split()) == {"exited"}


@pytest.mark.docker
def test_a_start_whose_answer_is_lost_with_the_engine(engine: OwnEngine, tmp_path):
    """The engine dies while it starts containers: they are lost to the node, nobody waits for ever, nothing runs on."""

    async def scenario():
        stage = DockerStage(tmp_path, url=engine.url)
        async with opened(stage.driver()) as driver:
            tickets = [stage.ticket(stage.shell("echo up; exec sleep 15")) for _ in range(8)]
            for ticket in tickets:
                await driver.prepare(ticket)
            starts = [asyncio.create_task(driver.start(ticket)) for ticket in tickets]
            await wait_until(lambda: _running(tickets), "the first one runs")
            await asyncio.to_thread(engine.end, signal.SIGKILL)
            began = await asyncio.gather(*starts, return_exceptions=True)
            assert not [end for end in began if end is not None and not isinstance(end, EngineUnavailable)], began
            engine.start()
            asked = [ticket for ticket, end in zip(tickets, began, strict=True) if end is None]
            outputs = [asyncio.create_task(_follow(driver, ticket, {})) for ticket in asked]
            lost = await asyncio.wait_for(asyncio.gather(*(_is_lost(driver, ticket) for ticket in asked)), HANG_S)
            assert any(lost)
            await asyncio.wait_for(asyncio.gather(*outputs), HANG_S)

    asyncio.run(scenario())


async def _is_lost(driver: DockerDriver, ticket: Ticket) -> bool:
    """Whether it was lost, and then nothing of it runs; some outlive the engine, and come to their end."""
    (end,) = await asyncio.gather(driver.wait(ticket), return_exceptions=True)
    if isinstance(end, Outcome) and end.exit_code == 0:
        return False
    assert isinstance(end, DriverFault | Outcome)
    assert end.cause is Cause.NODE_LOST
    await wait_until(lambda: not _running([ticket]), "nothing of it runs on")
    return True


def _running(tickets: list[Ticket]) -> list[str]:
    """The attempts whose command runs, by its environment: the engine's own word is in doubt here."""
    names = {f"WINDLASS_ATTEMPT_ID={ticket.attempt_id}" for ticket in tickets}
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[0] == b"sleep":
                found += names.intersection((process / "environ").read_bytes().decode().split("\0"))
    return found


@pytest.mark.docker
def test_the_output_of_one_that_never_started_ends(docker: DockerStage):
    async def scenario():
        ticket = docker.ticket(docker.exits(0))
        async with opened(docker.driver()) as driver:
            await driver.prepare(ticket)
        async with opened(docker.driver()) as adopting:
            output = asyncio.create_task(_follow(adopting, ticket, {}))
            await asyncio.sleep(0)  # it reads before the end is known
            with pytest.raises(DriverFault, match="never started") as fault:
                await adopting.wait(ticket)
            assert fault.value.cause is Cause.NODE_LOST
            await asyncio.wait_for(output, HANG_S)
            await adopting.remove(ticket)

    asyncio.run(scenario())


async def _available(driver: DockerDriver) -> bool:
    return (await driver.facts()).available


async def _follow(driver: DockerDriver, ticket, at: dict[str, int]) -> None:
    async for chunk in driver.logs(ticket, {}):
        follow(chunk, at)


def test_an_engine_that_hangs_is_unavailable_in_time(tmp_path):
    async def scenario():
        path = tempfile.mktemp(prefix="wl-", dir="/tmp")
        forever = asyncio.Event()

        async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await forever.wait()
            writer.close()

        async with await asyncio.start_unix_server(silent, path):
            driver = DockerStage(tmp_path, url=f"unix://{path}").driver()
            with pytest.raises(EngineUnavailable):
                await driver.open()
            facts = await driver.facts()
            assert not facts.available
            await driver.close()
            forever.set()
        Path(path).unlink(missing_ok=True)

    asyncio.run(scenario())


def test_no_engine_at_all_is_unavailable(tmp_path):
    async def scenario():
        driver = DockerStage(tmp_path, url="unix:///no/such/docker.sock").driver()
        with pytest.raises(EngineUnavailable, match="Docker Engine"):
            await driver.open()
        await driver.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "1.41"), ("1.52", "1.44", "1.52"), ("1.60", "1.44", "1.52"), ("1.70", "1.60", "1.60")],
)
def test_the_api_version_is_agreed_on(newest: str, oldest: str, spoken: str):
    assert negotiate(newest, oldest) == spoken


@pytest.mark.docker
def test_more_calls_than_a_plain_session_has_connections(docker: DockerStage):
    async def scenario():
        engine = Engine()
        await engine.open()
        async with contextlib.AsyncExitStack() as streams:
            for _ in range(120):
                await streams.enter_async_context(engine.stream("GET", "/events", {}))
            await engine.call("GET", "/containers/json", list[dict[str, object]], deadline_s=5.0)
        await engine.close()

    asyncio.run(scenario())
