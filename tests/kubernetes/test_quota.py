"""A namespace's quota as the room a worker offers."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from windlass.core.placement.snapshot import Room
from windlass.driver.kubernetes_quota import Offer, Quota, amount
from windlass.driver.kubernetes_status import Pod

FALLBACK = Room(4000, 2**30)


def a_quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> Quota:
    return msgspec.convert({"spec": spec, "status": {"hard": hard, "used": used or {}}}, Quota)


def a_pod(cpu: str, memory: str, phase: str = "Running") -> Pod:
    needs = {"cpu": cpu, "memory": memory}
    containers = [{"resources": {"requests": needs, "limits": needs}}]
    return msgspec.convert({"spec": {"containers": containers}, "status": {"phase": phase}}, Pod)


def room(*quotas: Quota, ours: list[Pod] | None = None) -> Room:
    return Offer().room(quotas, ours or [], FALLBACK)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("2", "2"), ("8Gi", str(8 * 2**30)), ("1e3", "1000"), ("1500k", "1500000"), ("0.5", "0.5"),
     ("100n", "0.0000001"), ("1E", "1000000000000000000"), ("1E2", "100"), ("+3", "3")],
)  # fmt: skip
def test_quantities(text: str, value: str):
    assert amount(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1gi", "1.2.3"])
def test_what_is_no_quantity(text: str):
    with pytest.raises((ValueError, ArithmeticError)):
        amount(text)


def test_without_a_quota_it_is_the_settings_room():
    assert room() == FALLBACK
    assert room(a_quota({"pods": "5"})) == FALLBACK


def test_the_hard_limits_are_the_room():
    assert room(a_quota({"requests.cpu": "10", "limits.memory": "64Gi"})) == Room(10_000, 64 * 2**30)
    assert room(a_quota({"cpu": "1500m"})) == Room(1500, FALLBACK.memory)


def test_the_tightest_limit_counts():
    tight = a_quota({"requests.cpu": "10", "limits.cpu": "3"}), a_quota({"memory": "1Gi"}), a_quota({"memory": "2Gi"})
    assert room(*tight) == Room(3000, 2**30)


def test_what_others_use_is_not_ours_and_what_we_use_is():
    ours = [a_pod("1", "1Gi"), a_pod("500m", "512Mi")]
    quota = a_quota({"requests.cpu": "10", "requests.memory": "10Gi"}, {"requests.cpu": "4", "requests.memory": "3Gi"})
    assert room(quota, ours=ours) == Room(7500, int(8.5 * 2**30))


def test_a_quota_that_is_more_than_used_up_leaves_nothing():
    assert room(a_quota({"cpu": "2"}, {"cpu": "5"})) == Room(0, FALLBACK.memory)


def test_quotas_of_other_pods_do_not_count():
    for spec in ({"scopes": ["BestEffort"]}, {"scopes": ["Terminating"]}, {"scopeSelector": {"matchExpressions": []}}):
        assert room(a_quota({"cpu": "1"}, **spec)) == FALLBACK
    assert room(a_quota({"cpu": "1"}, scopes=["NotTerminating", "NotBestEffort"])) == Room(1000, FALLBACK.memory)


def test_books_that_lag_behind_an_ended_pod_do_not_make_the_room_smaller():
    """The quota still counts a Pod of ours that has ended: others seem to use more for a moment."""
    offer, quota = Offer(), a_quota({"cpu": "4"}, {"cpu": "1"})
    running, ended = [a_pod("1", "1Gi")], [a_pod("1", "1Gi", "Succeeded")]
    assert offer.room([quota], running, FALLBACK).millis == 4000
    assert offer.room([quota], ended, FALLBACK).millis == 4000
    assert offer.room([quota], [], FALLBACK).millis == 4000
    assert offer.room([quota], [], FALLBACK).millis == 3000  # so it is somebody else's
