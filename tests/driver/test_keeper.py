"""The agent's connection to the watchdog, over a transport that delivers what a test says, in its order."""

import json
from pathlib import Path
from typing import Any

import pytest

from windlass.core.ids import AttemptId
from windlass.driver.keeper import Exit, Keeper
from windlass.driver.keeper_line import Line

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
