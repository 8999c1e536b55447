"""The agent's connection to the watchdog, over a transport that delivers what a test says, in its order."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.support import wait_until
from windlass.core.ids import AttemptId
from windlass.driver.keeper import Exit, Keeper, Process
from windlass.driver.keeper_line import Line
from windlass.driver.keeper_sweep import sweep

FIRST, SECOND = AttemptId("att_1"), AttemptId("att_2")


def lines(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def kept(attempt_id: AttemptId, exit_: list[object] | None = None) -> dict[str, Any]:
    return {"attempt": attempt_id, "pid": 1, "fence": 1, "exit": exit_}


def end(attempt_id: AttemptId) -> dict[str, Any]:
    return {"end": attempt_id, "code": 7, "signalled": False}


class Scripted(Keeper):
    """A keeper whose connection reads these pieces before anyone waiting for the greeting can run."""

    def __init__(self, folder: Path, *pieces: bytes) -> None:
        super().__init__(folder, "n", 60)
        self._pieces = pieces

    async def _connect(self) -> Line:
        line = Line(self._greeted, self._ended, self._lost)
        for piece in self._pieces:
            line.data_received(piece)
        await line.greeted
        return line


def _cut(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


HELLO = {"since": 1.0, "kept": [kept(FIRST), kept(SECOND)]}


@pytest.mark.parametrize(
    "pieces",
    [[lines(HELLO, end(FIRST))], [lines(HELLO), lines(end(FIRST))], _cut(lines(HELLO, end(FIRST)))],
    ids=["one read", "two reads", "byte by byte"],
)
async def test_an_end_behind_the_greeting_is_taken_in_after_it(tmp_path: Path, pieces: list[bytes]) -> None:
    keeper = Scripted(tmp_path, *pieces)
    await keeper.open()
    assert keeper.processes[FIRST].done.result() == Exit(7, False)
    assert not keeper.processes[SECOND].done.done()


async def test_what_was_forgotten_while_the_watchdog_was_away_stays_forgotten(tmp_path: Path) -> None:
    keeper = Scripted(tmp_path, lines(HELLO, end(FIRST)))
    keeper.forget(FIRST)
    await keeper.open()
    assert keeper.processes.keys() == {SECOND}


async def test_a_greeting_nobody_waits_for_any_more_is_not_taken_in(tmp_path: Path) -> None:
    keeper = Scripted(tmp_path)
    line = Line(keeper._greeted, keeper._ended, keeper._lost)  # pyright: ignore[reportPrivateUsage]
    line.greeted.cancel()
    line.data_received(lines(HELLO))
    assert not keeper.processes
    assert not keeper.connected


async def test_a_closed_keeper_takes_in_no_greeting(tmp_path: Path) -> None:
    keeper = Scripted(tmp_path)
    await keeper.close()
    line = Line(keeper._greeted, keeper._ended, keeper._lost)  # pyright: ignore[reportPrivateUsage]
    line.data_received(lines(HELLO))
    assert not keeper.processes
    assert not keeper.connected


class Deaf(Keeper):
    """A keeper that misses every end, beside a real watchdog."""

    missed = 0

    def _ended(self, end: dict[str, Any]) -> None:
        self.missed += 1

    async def run(self, folder: Path, attempt_id: AttemptId, script: str) -> None:
        out = str(folder / "out")
        how = {"program": "/bin/sh", "argv": ["sh", "-c", script], "env": {}, "cwd": "/", "out": out, "err": out}
        await self.spawn(attempt_id, 1, how | {"address_space": None})


@asynccontextmanager
async def deaf(folder: Path) -> AsyncIterator[Deaf]:
    (folder / "out").touch()
    keeper = Deaf(folder, "n", 60)
    await keeper.open()
    try:
        yield keeper
    finally:
        for attempt_id in [*keeper.processes]:
            keeper.forget(attempt_id)
        await keeper.close()


def repairs() -> float:
    return REGISTRY.get_sample_value("windlass_repairs_total", {"kind": "process_gone"}) or 0.0


async def test_the_sweep_ends_a_process_whose_end_was_missed(tmp_path: Path) -> None:
    before = repairs()
    async with deaf(tmp_path) as keeper:
        await keeper.run(tmp_path, SECOND, "exec sleep 60")
        await keeper.run(tmp_path, FIRST, "exit 7")
        await wait_until(lambda: keeper.missed == 1, "its end was sent, and missed")
        assert not keeper.processes[FIRST].done.done()
        await sweep(keeper)
        how = keeper.processes[FIRST].done.result()
        assert how == Exit(7, False)
        assert how is not None
        assert how.ran_s is not None
        assert not keeper.processes[SECOND].done.done(), "the other one runs"
        await sweep(keeper)
        assert repairs() - before == 1


async def test_the_sweep_ends_what_the_watchdog_does_not_know_as_lost(tmp_path: Path) -> None:
    before = repairs()
    async with deaf(tmp_path) as keeper:
        await keeper.run(tmp_path, FIRST, "exec sleep 60")
        process = keeper.processes[FIRST]
        keeper.forget(FIRST)
        keeper.processes[FIRST] = process
        await sweep(keeper)
        assert process.done.result() is None
    assert repairs() - before == 1


async def test_the_sweep_leaves_alone_what_is_spawned_and_what_has_no_watchdog(tmp_path: Path) -> None:
    async with deaf(tmp_path) as keeper:
        spawned, orphan = Process(0, 1), Process(1, 1, orphan=True)
        keeper.processes |= {FIRST: spawned, SECOND: orphan}
        await sweep(keeper)
        assert not spawned.done.done()
        assert not orphan.done.done()


async def test_the_sweep_asks_nothing_of_a_watchdog_too_old_for_it(tmp_path: Path) -> None:
    keeper = Scripted(tmp_path, lines(HELLO | {"v": 2}))
    await keeper.open()
    await sweep(keeper)
    assert not keeper.processes[FIRST].done.done()
