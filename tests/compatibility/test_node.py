"""A worker takes up what one of the version before has left on its node: the journal, and the watchdog at work."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility import watchdog_0_2 as old
from tests.driver.conftest import ProcessStage
from windlass.core.ids import AttemptId
from windlass.core.spec import JobSpec
from windlass.core.states import Cause, Driver
from windlass.driver.base import DriverFault, EngineUnavailable
from windlass.driver.keeper import Exit, Keeper
from windlass.driver.process import ProcessDriver
from windlass.watchdog.protocol import EXITS, SOCKET
from windlass.worker import clock
from windlass.worker.journal import Ended, Journal

JOURNAL = Path(__file__).with_name("journal_0_2.jsonl")
ONE, TWO, THREE, FOUR = (AttemptId(f"att_{n}") for n in range(1, 5))


def test_a_journal_that_0_2_wrote_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "boot_id", lambda: "boot-1")
    shutil.copy(JOURNAL, tmp_path)
    for _ in range(2):  # as it was, and as we have written it anew
        journal = Journal(tmp_path / JOURNAL.name)
        assert journal.entries.keys() == {ONE, TWO, THREE}
        assert journal.knows(FOUR)
        first = journal.entries[ONE]
        assert (first.launch.fence, first.launch.job_id, first.launch.deadline_in) == (2, "job_1", 60)
        assert (first.received_at, first.ended, first.stop) == (1000, None, None)
        spec = first.launch.spec
        assert (spec.env, spec.resources.pids, spec.volumes[0].target, spec.exclusive) == ({"A": "ü\n"}, 99, "/b", True)
        assert journal.entries[TWO].launch.spec == JobSpec(command=("true",), driver=Driver.PROCESS)
        assert journal.entries[TWO].stop == (Cause.DRAINED, "its node is drained")
        assert journal.entries[THREE].ended == Ended(1005, Cause.EXIT_CODE, 7, "exited with 7", 1001)
        journal.close()


@asynccontextmanager
async def watchdog(folder: Path, answers: list[str]) -> AsyncIterator[list[dict[str, Any]]]:
    """One that says what 0.2 said: the greeting, these answers in turn, and an end once it is to signal. What it was
    asked."""
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(old.GREETING.encode() + b"\n")
        async for line in reader:
            ask = json.loads(line)
            asked.append(ask)
            if "n" in ask:
                writer.write(json.dumps(json.loads(answers.pop(0)) | {"n": ask["n"]}).encode() + b"\n")
            if ask["op"] == "signal":
                writer.write(old.END.encode() + b"\n")
        writer.close()

    async with await asyncio.start_unix_server(serve, folder / SOCKET):
        yield asked


async def test_a_watchdog_of_0_2_is_spoken_to(tmp_path: Path) -> None:
    stage = ProcessStage(tmp_path)
    tickets = [stage.ticket(stage.exits(0)) for _ in range(3)]
    async with watchdog(tmp_path, [old.SPAWNED, old.FENCED, old.NOT_FOUND]) as asked:
        keeper = Keeper(tmp_path, stage.node, 12.0)
        driver = ProcessDriver(tmp_path / "slots", stage.node, keeper)
        await driver.open()
        keeper.guard("/var/run/docker.sock", ["windlass.node=node_1"])
        kept = dict(keeper.processes)
        assert kept.keys() == {ONE, TWO}
        assert (kept[ONE].pid, kept[ONE].fence, kept[TWO].done.result()) == (4243, 2, Exit(7, False))
        for ticket in tickets:
            await driver.prepare(ticket)
        await driver.start(tickets[0])
        for ticket, refused in zip(tickets[1:], (EngineUnavailable, DriverFault), strict=True):
            with pytest.raises(refused):
                await driver.start(ticket)
        assert keeper.processes[tickets[0].attempt_id].pid == 4245
        keeper.signal(ONE, 9)  # pyright: ignore[reportArgumentType]
        assert await asyncio.wait_for(kept[ONE].done, 5) == Exit(9, True)
        keeper.forget(TWO)
        await driver.close()
        await keeper.close()
    assert {ask["op"] for ask in asked} == old.ASKS.keys()
    for ask in asked:
        assert ask.keys() - {"op"} == old.ASKS[ask["op"]]
        assert ask.get("how", dict.fromkeys(old.HOW)).keys() == old.HOW


async def test_exits_that_a_watchdog_of_0_2_left_are_known(tmp_path: Path) -> None:
    (tmp_path / EXITS).write_text(old.EXITS)
    keeper = Keeper(tmp_path, "node_1", 60.0)
    await keeper.open()
    assert {a: one.done.result() for a, one in keeper.processes.items()} == {THREE: Exit(9, True), FOUR: Exit(0, False)}
    assert [one.fence for one in keeper.processes.values()] == [2, 3]
    await keeper.close()
