"""The process driver and jobs that lay hands on what it keeps: none may harm the next job, or the agent after a
restart."""

import asyncio
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.driver.conftest import ProcessStage
from tests.driver.play import opened, read, run
from windlass.core.states import Cause

VANDALS = {
    "removes its folder": "rmdir $PWD",
    "removes its outputs": "rm ../stdout ../stderr",
    "keeps a link to its output": "ln -f ../stdout ../../../kept",
    "leaves something beside": "touch ../litter",
    "locks its output": "chmod 000 ../stdout",
    "puts a link in its folder's place": "mkdir -p ../../../empty && rmdir $PWD && ln -s ../../../empty $PWD",
    "digs deep": "i=0; while [ $i -lt 1500 ]; do mkdir d; cd -P d; i=$((i+1)); done",
}


@pytest.fixture
def stage(tmp_path: Path):
    return ProcessStage(tmp_path)


def test_what_a_shutdown_ended_is_lost_to_the_node(stage: ProcessStage):
    """The watchdog outlives the jobs for a moment, and notes the signal that was meant for the whole machine."""

    async def scenario():
        tickets = [stage.ticket(stage.dies_of(15)), stage.ticket(stage.exits(0))]
        async with opened(stage.driver()) as driver:
            for ticket in tickets:
                await run(stage, driver, ticket)
        async with opened(stage.driver()) as driver:
            ends = [await driver.wait(replace(ticket, rebooted=True)) for ticket in tickets]
            own = await driver.wait(tickets[0])
        assert [(end.cause, end.exit_code) for end in ends] == [(Cause.NODE_LOST, 143), (None, 0)]
        assert (own.cause, own.exit_code) == (Cause.SIGNAL, 143)

    asyncio.run(scenario())


@pytest.mark.parametrize("script", VANDALS.values(), ids=VANDALS)
def test_the_next_job_gets_a_whole_slot(stage: ProcessStage, script: str):
    async def scenario():
        async with opened(stage.driver()) as driver:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                ticket = stage.ticket(stage.shell(script))
                assert (await run(stage, driver, ticket)).exit_code == 0
                await driver.remove(ticket)
                after = stage.ticket(stage.shell("ls -A . ..; pwd -P; echo mine"))
                assert (await run(stage, driver, after)).exit_code == 0
                said = (await read(driver, after))["stdout"].decode().split()
                assert said[:7] == [".:", "..:", "owner", "stderr", "stdout", "work", said[6]]
                assert said[6].startswith(f"{stage.root}/slots/")
                assert said[7] == "mine"
                await driver.remove(after)
            assert len(os.listdir("/proc/self/fd")) <= before + 3
            assert len(os.listdir(stage.root / "slots")) <= 1

    asyncio.run(scenario())


BRICKS = {
    "a stray file": "touch ../../stray",
    "a folder in place of its output": "rm ../stdout; mkdir ../stdout",
    "a link in place of its output": "ln -sf ../../victim ../stdout",
    "no folder": "rmdir $PWD",
    "no slot": "rm -r ../",
    "an owner that is none": "echo att_x y > ../owner",
    "a fence that is none": "env WINDLASS_FENCE=none setsid sleep 30 & sleep 0.3",
    "a deep folder": "i=0; while [ $i -lt 1500 ]; do mkdir d; cd -P d; i=$((i+1)); done",
}


@pytest.mark.parametrize("script", BRICKS.values(), ids=BRICKS)
def test_a_new_agent_starts_whatever_jobs_have_left(stage: ProcessStage, script: str):
    victim = stage.root / "slots" / "victim"

    async def scenario():
        async with opened(stage.driver()) as driver:
            if "victim" in script:
                (stage.root / "slots").mkdir()
                victim.write_text("dear")
            ticket = stage.ticket(stage.shell(f"{script}\n true"))
            await run(stage, driver, ticket)
        async with opened(stage.driver()) as driver:
            for survivor in await driver.survivors():
                assert survivor.fence in (0, 7)
            await driver.stop(ticket, 0)
            await driver.remove(ticket)
            again = stage.ticket(stage.shell("echo fine"))
            assert (await run(stage, driver, again)).exit_code == 0
            assert (await read(driver, again))["stdout"] == b"fine\n"
            await driver.remove(again)

    asyncio.run(scenario())


def test_a_flood_of_output_leaves_the_loop_alive_and_the_disk_free(stage: ProcessStage):
    flood = 2 * 2**30

    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.shell(f"exec head -c {flood} /dev/zero"))
            await driver.prepare(ticket)
            await driver.start(ticket)
            latest = chunks = 0

            async def listen():
                nonlocal latest, chunks
                async for chunk in driver.logs(ticket, {}):
                    latest, chunks = chunk.offset + len(chunk.data), chunks + 1

            listening = asyncio.create_task(listen())
            worst = last = 0
            while not listening.done():
                await asyncio.sleep(0)
                worst, last = max(worst, chunks - last), chunks
            await listening
            assert latest == flood
            assert worst <= 2, f"nobody else had a turn for {worst} chunks"
            used = int(subprocess.check_output(["du", "-sm", stage.root / "slots"]).split()[0])
            assert used < 100, f"{used} MiB are on the disk"
            await driver.remove(ticket)

    asyncio.run(scenario())
