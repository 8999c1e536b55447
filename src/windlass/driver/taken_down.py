"""Whose doing an end was: the job's own, or its engine's or its machine's, which costs the job no retry.

An engine that goes down ends its containers with a signal, and tells 255 of those it does not find again. So an end in
other than success is the infrastructure's when the engine was away at that moment. Of an end that no driver saw, as its
worker was away or stood still at that moment, less is known:

| it ended with | whose doing |
|---|---|
| 0, or out of memory | its own |
| anything else, and its machine was started anew since its launch | the infrastructure's |
| another code | its own |
| a signal or 255 | its own if the engine that runs now is known to have started it, else the infrastructure's |

The last line errs on the job's side; `max_infra_losses` bounds what that can cost.
"""

import time
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from windlass.core.states import Cause
from windlass.driver.base import Outcome

SLACK_S = 3.0  # between the engine's first kill and the first call it failed to answer, and clock rounding
#: Seconds between two ticks; of who is this much late it is said that it stood still.
TICK_S, _STILL_S = 1.0, 3.0
_REMEMBERED = 10
_NOT_FOUND_AGAIN = 255


class _Outage(NamedTuple):
    since: float
    noticed: float
    until: float


@dataclass(slots=True)
class Outages:
    """When the engine was away, as far as this process saw. Moments are the wall clock's, in seconds, as the engine's
    are; one that jumps meanwhile makes an outage longer, never shorter."""

    _answered_at: float = field(default_factory=lambda: time.time())
    _away_at: float | None = None
    _over: list[_Outage] = field(default_factory=list[_Outage])
    _ticked_at: float = field(default_factory=lambda: time.time())
    _still: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def answered(self) -> None:
        """The engine has just answered."""
        if (outage := self._going_on()) is not None:
            self._over = [*self._over[1 - _REMEMBERED :], outage]
            self._away_at = None
        self._answered_at = time.time()

    def away(self) -> None:
        """It failed to answer just now."""
        if self._away_at is None:
            self._away_at = time.time()

    def cover(self, started: float, ended: float) -> bool:
        """Whether the engine was away when this ended, and not only before it started. Where the clock was set back
        between the two, when it started says nothing."""
        now, set_back = self._going_on(), started > ended
        return any(
            (set_back or started < outage.noticed) and outage.since - SLACK_S <= ended <= outage.until + SLACK_S
            for outage in (*self._over, *((now,) if now else ()))
        )

    def tick(self) -> None:
        """To be called every TICK_S: this process does not stand still."""
        now = time.time()
        if now - self._ticked_at > _STILL_S:
            self._still = [*self._still[1 - _REMEMBERED :], (self._ticked_at, now)]
        self._ticked_at = now

    def watched(self, ended: float) -> bool:
        """Whether this process went on at this moment: else the engine may have died and begun anew unseen."""
        self.tick()
        return not any(since - SLACK_S <= ended <= until + SLACK_S for since, until in self._still)

    def _going_on(self) -> _Outage | None:
        """From the last answer on: who was frozen meanwhile notices an outage late."""
        if self._away_at is None:
            return None
        before, noticed = self._answered_at, self._away_at
        return _Outage(min(before, noticed), max(before, noticed), max(before, noticed, time.time()))


def taken_down(outcome: Outcome, by: str) -> Outcome:
    """The same end, lost to the infrastructure: its exit code is kept."""
    return replace(outcome, cause=Cause.NODE_LOST, message=f"{by}: {outcome.message}")


def unseen(outcome: Outcome, *, rebooted: bool, same_engine: bool) -> Outcome:
    """What to make of an end that no driver saw. `same_engine`: the one that runs now has surely started it."""
    if outcome.cause in (None, Cause.OOM, Cause.NODE_LOST):
        return outcome
    if rebooted:
        return taken_down(outcome, "its machine was started anew")
    in_doubt = outcome.cause is Cause.SIGNAL or outcome.exit_code == _NOT_FOUND_AGAIN
    if in_doubt and not same_engine:
        return taken_down(outcome, "it ended while its worker was away, perhaps taken down by its engine")
    return outcome
