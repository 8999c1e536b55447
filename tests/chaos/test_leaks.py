"""What the memory of a run's members says about leaks."""

from typing import cast

import pytest

from windlass.chaos.cluster import Cluster
from windlass.chaos.leaks import Memory

MINUTES = [60.0 * i for i in range(61)]


def memory(*lives: list[float]) -> Memory:
    """Each life a MiB value a minute."""
    found = Memory(cast("Cluster", None))
    for pid, life in enumerate(lives):
        found.lives["worker-1", pid] = list(zip(MINUTES, life, strict=False))
    return found


def test_a_leak_shows_in_full():
    slope = memory([50 + 5 * at / 3600 for at in MINUTES], [70 + 5 * at / 3600 for at in MINUTES[:20]]).slope("worker")
    assert slope is not None
    assert slope[0] == pytest.approx(5)
    assert slope[1] == pytest.approx(0.5 + 9 / 60)


def test_what_fills_up_to_a_bound_is_no_leak():
    slope = memory([50 + min(at, 1500) / 100 for at in MINUTES]).slope("worker")
    assert slope is not None
    assert slope[0] == pytest.approx(0)


def test_lives_too_short_to_tell_say_nothing():
    assert memory([50 + at for at in MINUTES[:9]]).slope("worker") is None
    assert memory([50.0] * 61).slope("api") is None
