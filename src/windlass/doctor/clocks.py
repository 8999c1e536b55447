"""Clocks: how far this host's is from those of the servers. Leases and limits count on monotonic clocks and on
PostgreSQL's; wall clocks show in logs, certificates, tokens and traces."""

import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import combinations

from windlass.doctor.findings import Notes, Offset

#: Seconds apart from which on logs can't be put side by side, and from which on certificates and tokens go wrong.
APART_S, FAR_S = 1.0, 60.0
TIMES = 5
HERE = "this host"


async def measure(ask: Callable[[], Awaitable[float]]) -> Offset:
    """The offset of a clock, from the quickest of a few answers; it was read between question and answer."""
    found: list[Offset] = []
    for _ in range(TIMES):
        before = time.time()
        theirs = await ask()
        after = time.time()
        found.append(Offset(theirs - (before + after) / 2, abs(after - before) / 2))
    return min(found, key=lambda one: one.within_s)


def examine(clocks: Mapping[str, Offset], notes: Notes) -> None:
    """Compare every two clocks."""
    notes.facts |= {name: {"ahead_s": one.ahead_s, "within_s": one.within_s} for name, one in clocks.items()}
    known = {HERE: Offset(0.0, 0.0)} | dict(clocks)
    for (one, here), (other, there) in combinations(known.items(), 2):
        apart, within = there.ahead_s - here.ahead_s, here.within_s + there.within_s
        told = f"{other} is {abs(apart):.3f} s {'ahead of' if apart > 0 else 'behind'} {one} (to {within:.3f} s)"
        check = f"{_short(one)}_{_short(other)}"
        fix = "have chrony or systemd-timesyncd keep the clock of each machine, and let it slew"
        if abs(apart) - within > FAR_S:
            notes.error(check, told, fix)
        elif abs(apart) - within > APART_S:
            notes.warn(check, told, fix)
        else:
            notes.ok(check, told)


def _short(name: str) -> str:
    return "host" if name == HERE else name
