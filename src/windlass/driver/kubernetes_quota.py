"""How much a namespace lets us use: its ResourceQuota, less what others use of it."""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from windlass.core.placement.snapshot import Room
from windlass.driver.kubernetes_status import Pod

#: Scopes under which a quota counts our Pods: they have limits, and no deadline of their own.
_OURS = frozenset({"NotTerminating", "NotBestEffort"})
_CPU = ("requests.cpu", "limits.cpu", "cpu")
_MEMORY = ("requests.memory", "limits.memory", "memory")
#: Looks in a row that must agree before others count: the books of an ended Pod close a moment late.
_LOOKS = 3

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {unit: 2 ** (10 * power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}


class _Spec(msgspec.Struct):
    scopes: list[str] = msgspec.field(default_factory=list[str])
    selector: dict[str, object] | None = msgspec.field(name="scopeSelector", default=None)


class _Status(msgspec.Struct):
    hard: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    used: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Quota(msgspec.Struct):
    """The part of a ResourceQuota that matters here."""

    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def counts_ours(self) -> bool:
        return self.spec.selector is None and set(self.spec.scopes) <= _OURS


class QuotaList(msgspec.Struct):
    items: list[Quota]


def amount(text: str) -> Decimal:
    """A Kubernetes quantity, such as 500m, 8Gi or 1e3. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    number, exponent, unit = match.groups()
    if exponent:
        return Decimal(number + exponent)
    return Decimal(number) * (_BINARY[unit] if unit in _BINARY else Decimal(10) ** _DECIMAL[unit or ""])


class Offer:
    """What of the quotas is ours to give away."""

    def __init__(self) -> None:
        self._others: deque[Mapping[str, Decimal]] = deque(maxlen=_LOOKS)

    def room(self, quotas: Iterable[Quota], ours: Iterable[Pod], fallback: Room) -> Room:
        """The room the quotas leave us, all of our own included; `fallback` for what no quota limits."""
        quotas = [quota for quota in quotas if quota.counts_ours]
        self._others.append(_used_by_others(quotas, list(ours)))
        cpu = [self._left(quota, name) for quota in quotas for name in _CPU if name in quota.status.hard]
        memory = [self._left(quota, name) for quota in quotas for name in _MEMORY if name in quota.status.hard]
        return Room(int(min(cpu) * 1000) if cpu else fallback.millis, int(min(memory)) if memory else fallback.memory)

    def _left(self, quota: Quota, name: str) -> Decimal:
        others = min(look.get(name, Decimal(0)) for look in self._others)
        return max(Decimal(0), amount(quota.status.hard[name]) - others)


def _used_by_others(quotas: list[Quota], ours: list[Pod]) -> dict[str, Decimal]:
    """By resource, the most any quota counts beyond what our own Pods hold."""
    used: dict[str, Decimal] = {}
    for quota in quotas:
        for name, counted in quota.status.used.items():
            if name in _CPU or name in _MEMORY:
                held = sum((_held(pod, name) for pod in ours if not pod.over), Decimal(0))
                used[name] = max(used.get(name, Decimal(0)), amount(counted) - held)
    return used


def _held(pod: Pod, name: str) -> Decimal:
    kind, _, resource = name.rpartition(".")
    return sum(
        (
            amount((one.resources.limits if kind == "limits" else one.resources.requests).get(resource, "0"))
            for one in pod.spec.containers
        ),
        Decimal(0),
    )
