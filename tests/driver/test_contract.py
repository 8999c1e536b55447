"""What every driver promises, whatever it starts: one suite over all of them."""

import asyncio
import time

import pytest

from tests.driver.conftest import CommandStage, Stage
from tests.driver.play import opened, read, run
from tests.support import HANG_S, wait_until
from windlass.core.states import Cause
from windlass.driver.base import DriverFault, EngineUnavailable, Outcome

SOME_CODES = [0, 1, 2, 125, 126, 127, 128, 254, 255]


def test_exit_codes_are_exact(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            for code in SOME_CODES:
                outcome = await run(stage, driver, stage.ticket(stage.exits(code)))
                assert outcome.exit_code == code
                assert outcome.cause is (None if code == 0 else Cause.EXIT_CODE)

    asyncio.run(scenario())


@pytest.mark.parametrize("signal", [1, 9, 15])
def test_a_signal_is_128_and_its_number(stage: Stage, signal: int):
    async def scenario():
        async with opened(stage.driver()) as driver:
            outcome = await run(stage, driver, stage.ticket(stage.dies_of(signal)))
            assert (outcome.exit_code, outcome.cause) == (128 + signal, Cause.SIGNAL)
            assert outcome.message

    asyncio.run(scenario())


def test_stop_ends_what_listens_at_once(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.sleeps(30))
            await driver.prepare(ticket)
            await driver.start(ticket)
            stopping = asyncio.create_task(driver.stop(ticket, 3600))
            outcome = await asyncio.wait_for(driver.wait(ticket), HANG_S)
            assert (outcome.exit_code, outcome.cause) == (143, Cause.SIGNAL)
            await stopping

    asyncio.run(scenario())


def test_stop_kills_the_deaf_when_grace_is_over(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.deaf())
            await driver.prepare(ticket)
            await driver.start(ticket)
            output = driver.logs(ticket, {})
            assert (await anext(aiter(output))).data == b"deaf\n"
            asked = time.monotonic()
            stopping = asyncio.create_task(driver.stop(ticket, 2))
            outcome = await asyncio.wait_for(driver.wait(ticket), HANG_S)
            assert (outcome.exit_code, outcome.cause) == (137, Cause.SIGNAL)
            assert time.monotonic() - asked >= 1
            await stopping
            await output.aclose()

    asyncio.run(scenario())


def test_a_second_stop_may_hurry_the_first(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.deaf())
            await driver.prepare(ticket)
            await driver.start(ticket)
            output = driver.logs(ticket, {})
            await anext(aiter(output))
            stopping = asyncio.create_task(driver.stop(ticket, 40))
            await asyncio.sleep(0)
            await driver.stop(ticket, 0)
            outcome = await asyncio.wait_for(driver.wait(ticket), HANG_S)
            assert outcome.exit_code == 137
            await asyncio.wait_for(stopping, HANG_S)
            await output.aclose()

    asyncio.run(scenario())


def test_every_verb_may_be_asked_twice(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.exits(3))
            await driver.prepare(ticket)
            await driver.prepare(ticket)
            await driver.start(ticket)
            await driver.start(ticket)
            for _ in range(2):
                assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 3
            await driver.stop(ticket, 1)
            await driver.stop(ticket, 1)
            await driver.remove(ticket)
            await driver.remove(ticket)
            assert await driver.survivors() == []

    asyncio.run(scenario())


def test_what_has_ended_is_never_started_again(commands: CommandStage):
    async def scenario():
        ticket = commands.ticket(commands.shell("echo ran; exit 4"))
        async with opened(commands.driver()) as driver:
            await run(commands, driver, ticket)
            await driver.start(ticket)
        async with opened(commands.driver()) as restarted:
            await restarted.prepare(ticket)
            await restarted.start(ticket)
            outcome = await asyncio.wait_for(restarted.wait(ticket), HANG_S)
            assert outcome.exit_code == 4
            assert (await read(restarted, ticket))["stdout"] == b"ran\n"

    asyncio.run(scenario())


def test_a_new_driver_adopts_what_runs_and_what_ended(stage: Stage):
    async def scenario():
        running, ended = stage.ticket(stage.sleeps(2, exit_code=42)), stage.ticket(stage.exits(43))
        async with opened(stage.driver()) as driver:
            await run(stage, driver, ended)
            await driver.prepare(running)
            await driver.start(running)
        async with opened(stage.driver()) as restarted:
            found = {survivor.attempt_id: survivor for survivor in await restarted.survivors()}
            assert found[running.attempt_id].running
            assert {survivor.fence for survivor in found.values()} == {7}
            outcomes = [await asyncio.wait_for(restarted.wait(ticket), HANG_S) for ticket in (running, ended)]
            assert set(found) == {running.attempt_id, ended.attempt_id}
            assert not found[ended.attempt_id].running
            assert [outcome.exit_code for outcome in outcomes] == [42, 43]

    asyncio.run(scenario())


def test_what_was_never_started_is_not_waited_for(stage: Stage):
    async def scenario():
        ticket = stage.ticket(stage.exits(0))
        async with opened(stage.driver()) as driver:
            await driver.prepare(ticket)
        async with opened(stage.driver()) as restarted:
            try:
                outcome = await asyncio.wait_for(restarted.wait(ticket), HANG_S)
            except DriverFault as fault:
                outcome = Outcome(None, fault.cause, fault.message)
            assert outcome.cause is Cause.NODE_LOST
            await restarted.start(ticket)
            if restarted.keeps_outcome:
                assert (await asyncio.wait_for(restarted.wait(ticket), HANG_S)).exit_code == 0

    asyncio.run(scenario())


def test_a_wait_may_be_given_up_and_taken_up_again(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.sleeps(1, exit_code=5))
            await driver.prepare(ticket)
            await driver.start(ticket)
            waiting = asyncio.create_task(driver.wait(ticket))
            await asyncio.wait([waiting], timeout=0.1)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 5

    asyncio.run(scenario())


def test_stopping_or_removing_the_unknown_is_nothing(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.exits(0))
            await driver.stop(ticket, 1)
            await driver.remove(ticket)

    asyncio.run(scenario())


def test_an_unknown_image_is_named(stage: Stage):
    spec = stage.unknown_image()
    if spec is None:
        pytest.skip("this driver knows no images")

    async def scenario():
        async with opened(stage.driver()) as driver:
            with pytest.raises(DriverFault) as fault:
                await run(stage, driver, stage.ticket(spec))  # some drivers bring the image only with the start
            assert fault.value.cause is Cause.IMAGE_PULL
            assert str(spec.image) in fault.value.message

    asyncio.run(scenario())


def test_a_command_that_cannot_run_is_a_failed_start(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            try:
                outcome = await run(stage, driver, stage.ticket(stage.unrunnable()))
            except DriverFault as fault:
                outcome = Outcome(None, fault.cause, fault.message)
            assert outcome.cause is Cause.START_FAILED
            assert "cannot run" in outcome.message or "/no/such/command" in outcome.message

    asyncio.run(scenario())


def test_facts_say_it_can_start_something(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            assert (await driver.facts()).available

    asyncio.run(scenario())


def test_env_and_workdir_reach_the_command(commands: CommandStage):
    async def scenario():
        async with opened(commands.driver()) as driver:
            ids = '"$WINDLASS_JOB_ID" "$WINDLASS_ATTEMPT_ID" "$WINDLASS_ATTEMPT"'
            script = f'printf "%s|%s|%s|%s|%s" "$GREETING" {ids} "$PWD"'
            spec = commands.shell(script, env={"GREETING": "a b\n$c"}, workdir="/tmp")
            ticket = commands.ticket(spec, number=3)
            await run(commands, driver, ticket)
            words = (await read(driver, ticket))["stdout"].decode().split("|")
            assert words == ["a b\n$c", ticket.job_id, ticket.attempt_id, "3", "/tmp"]

    asyncio.run(scenario())


def test_many_at_once(commands: CommandStage):
    async def scenario():
        async with opened(commands.driver()) as driver:
            tickets = [commands.ticket(commands.shell(f"echo {n}; exit {n}")) for n in range(8)]
            outcomes = await asyncio.gather(*(run(commands, driver, ticket) for ticket in tickets))
            assert [outcome.exit_code for outcome in outcomes] == list(range(8))
            texts = await asyncio.gather(*(read(driver, ticket) for ticket in tickets))
            assert [text["stdout"] for text in texts] == [b"%d\n" % n for n in range(8)]

    asyncio.run(scenario())


def test_children_do_not_outlive_a_stop(commands: CommandStage):
    async def scenario():
        async with opened(commands.driver()) as driver:
            ticket = commands.ticket(commands.shell("sleep 300 & sleep 300 & echo up; wait"))
            await driver.prepare(ticket)
            await driver.start(ticket)
            output = driver.logs(ticket, {})
            await anext(aiter(output))
            await driver.stop(ticket, 3)
            await asyncio.wait_for(driver.wait(ticket), HANG_S)
            await output.aclose()
            await wait_until(lambda: _not_running(driver, ticket.attempt_id), "the attempt is over for good")

    async def _not_running(driver, attempt_id):
        return not any(survivor.running for survivor in await driver.survivors() if survivor.attempt_id == attempt_id)

    asyncio.run(scenario())


def test_a_fault_is_no_engine_trouble():
    assert not issubclass(DriverFault, EngineUnavailable)
