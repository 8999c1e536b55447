"""Whose doing an end was, by the rule alone."""

import pytest

from windlass.core.states import Cause
from windlass.driver import taken_down
from windlass.driver.base import Outcome
from windlass.driver.taken_down import Outages, unseen


class Wall:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    clock = Wall()
    monkeypatch.setattr(taken_down.time, "time", clock.time)
    return clock


def outages(wall: Wall, *, answered: float, noticed: float, back: float) -> Outages:
    known = Outages()
    wall.now = answered
    known.answered()
    wall.now = noticed
    known.away()
    wall.now = back
    known.answered()
    return known


@pytest.mark.parametrize(
    ("started", "ended", "covered"),
    [
        (900, 1100, True),  # as it went away
        (900, 1098, True),  # a moment before anyone noticed
        (900, 1125, True),  # as it came back
        (900, 1050, False),  # long before
        (900, 1140, False),  # long after
        (1121, 1122, False),  # it was started after it all
        (4700, 1100, True),  # as it went away, and the clock had been set back meanwhile
    ],
)
def test_an_end_while_the_engine_was_away(wall: Wall, started: float, ended: float, covered: bool):
    known = outages(wall, answered=1099, noticed=1100, back=1124)
    wall.now = 1200
    assert known.cover(started, ended) is covered


def test_one_who_was_frozen_notices_late(wall: Wall):
    """The engine went down and came up while its worker stood still."""
    known = outages(wall, answered=1100, noticed=1160, back=1161)
    assert known.cover(900, 1130)


def test_an_outage_that_goes_on(wall: Wall):
    known = Outages()
    wall.now = 1100
    known.away()
    assert known.cover(900, 1101)
    wall.now = 1101
    known.away()
    known.answered()
    assert not known.cover(900, 1110)


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
def test_a_clock_that_jumps_hides_no_outage(wall: Wall, by_s: float):
    known = outages(wall, answered=1099, noticed=1100 + by_s, back=1101 + by_s)
    assert known.cover(900, 1099.5)


def test_who_stood_still_has_not_watched(wall: Wall):
    """Neither at once, nor once it has stood still again; nobody noticed an outage. That nobody had to ask the engine
    for long is no standstill."""
    known = Outages()
    for wall.now in range(1000, 1060):
        known.tick()
    assert known.watched(1059.9)
    wall.now = 1120
    assert not known.watched(1090)
    for wall.now in (1121, 1122, 1150):
        known.tick()
    assert not known.watched(1090)
    assert not known.watched(1130)
    for wall.now in range(1150, 1160):
        known.tick()
    assert known.watched(1159.9)
    assert known.watched(1050)


SIGNAL, LOST = Outcome(143, Cause.SIGNAL, "ended by SIGTERM"), Outcome(255, Cause.EXIT_CODE, "exited with code 255")
OOM, OWN = Outcome(137, Cause.OOM, "out of memory"), Outcome(3, Cause.EXIT_CODE, "exited with code 3")
WELL = Outcome(0, None)


@pytest.mark.parametrize(
    ("rebooted", "same_engine", "lost"),
    [
        (False, True, []),
        (False, False, [SIGNAL, LOST]),
        (True, True, [SIGNAL, LOST, OWN]),
        (True, False, [SIGNAL, LOST, OWN]),
    ],
)
def test_an_end_that_nobody_saw(rebooted: bool, same_engine: bool, lost: list[Outcome]):
    for outcome in (SIGNAL, LOST, OOM, OWN, WELL):
        judged = unseen(outcome, rebooted=rebooted, same_engine=same_engine)
        assert judged.exit_code == outcome.exit_code
        assert judged.cause is (Cause.NODE_LOST if outcome in lost else outcome.cause)
