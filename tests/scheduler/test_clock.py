"""The database's clock jumps while a leader leads: its time goes on steadily."""

import time

import pytest
from structlog.testing import capture_logs

from windlass.scheduler.picture import Picture


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_jump_is_told_once_and_not_followed(jump: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    picture = Picture()
    began = 1_000_000.0
    picture.set_clock(began)
    with capture_logs() as said:
        for _ in range(5):
            picture.set_clock(began + jump)
    assert picture.now() == began
    assert [(line["event"], line["by_s"]) for line in said] == [("database_clock_jumped", jump)]
    with capture_logs() as said:
        picture.set_clock(began)
    assert said == []


def test_drift_is_followed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    picture = Picture()
    picture.set_clock(1_000_000.0)
    picture.set_clock(1_000_003.0)
    assert picture.now() == 1_000_003.0
