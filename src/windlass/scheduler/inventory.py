"""Inventory: what a node says it holds, held against what the ledger says it has; whatever differs is put right.

| node | ledger | then |
|---|---|---|
| holds it not | placed, or stopping | the order was lost: send it again |
| holds it not | preparing, or running | it is gone without a word: lost |
| holds it, ended | live | the report was lost: have it told again |
| holds it | placed, or preparing, for long | the same: it may run already |
| holds it | over, elsewhere, or unknown | have the node end and forget it |

What may just be on its way is given time: an order GRACE_S seconds, anything else until a later beat, ODD_S or more
after the first, shows it still.
"""

from dataclasses import dataclass, field

from windlass import metrics
from windlass.core import events
from windlass.core.ids import AttemptId, NodeId
from windlass.core.states import AttemptState, Cause
from windlass.repairs import repaired
from windlass.scheduler.desk import Desk
from windlass.scheduler.ingest import Fact, advance
from windlass.scheduler.picture import Picture
from windlass.store import tasks
from windlass.stream import orders, wire

#: Seconds from the first beat that shows something odd to the one it is repaired at.
ODD_S = 1.0
#: Seconds a beat may come late. Where only older ones come for longer, the node's clock was set back: it is a virtual
#: machine on an earlier snapshot, or the one that seemed later was no beat of its.
LATE_S = 30.0

#: What an attempt is in once its node has spoken of it.
_BEGUN = (AttemptState.PREPARING, AttemptState.RUNNING)

Since = dict[AttemptId, float]


@dataclass(slots=True)
class Seen:
    """A node's last beat, read at a moment of the picture's: what looked odd in it, and since when."""

    boot: str = ""
    at: float = 0.0
    read_at: float = float("-inf")
    strangers: Since = field(default_factory=lambda: Since())
    ended: Since = field(default_factory=lambda: Since())
    missing: Since = field(default_factory=lambda: Since())


@dataclass(slots=True)
class Inventory:
    """The comparison's memory, by node."""

    seen: dict[NodeId, Seen] = field(default_factory=lambda: dict[NodeId, Seen]())

    def outdated(self, beat: wire.Beat, now: float) -> bool:
        """Whether a later beat of this node was heard: by the stream one may come late, by the exchange sooner."""
        last = self.seen.get(beat.node_id)
        if last is None or now - last.read_at >= LATE_S:
            return False
        return bool(beat.boot) and beat.boot == last.boot and beat.at <= last.at

    async def compare(self, desk: Desk, beat: wire.Beat) -> None:
        """Hold a node's beat, the newest there is, against the ledger, and repair."""
        picture = desk.picture
        held, ours = set(beat.attempts), picture.by_node[beat.node_id]
        last, now = self.seen.get(beat.node_id, Seen()), picture.now()
        strangers, old_strangers = _still(last.strangers, held - ours - picture.unread.keys(), now)
        ended, old_ended = _still(last.ended, ours & set(beat.ended), now)
        missing, old_missing = _still(last.missing, _had(picture, ours - held), now)
        self.seen[beat.node_id] = Seen(beat.boot, beat.at, now, strangers, ended, missing)
        await self._missing(desk, beat.node_id, ours - held, old_missing)
        self._unreported(desk, beat.node_id, ours & held, old_ended)
        if old_strangers:
            await self._disown(desk, beat.node_id, old_strangers)

    async def _missing(self, desk: Desk, node_id: NodeId, missing: set[AttemptId], again: set[AttemptId]) -> None:
        """`again` was missing in the beat before, too: one beat may be from before its launch, and late."""
        now = desk.picture.now()
        lost: list[Fact] = []
        sent: list[wire.CommandOut] = []
        for attempt_id in missing:
            live = desk.picture.live[attempt_id]
            attempt = live.attempt
            if attempt is None or now - max(attempt.placed_at, attempt.stop_sent_at or 0) < orders.GRACE_S:
                continue
            if attempt.state in _BEGUN:
                if attempt_id not in again:
                    continue
                gone = events.Exited(now, Cause.NODE_LOST, None, "its node no longer knows it")
                lost.append((attempt_id, gone, None))
            elif (order := orders.order_again(live.task, attempt, live.spec_text, now)) is not None:
                sent.append(order)
        desk.commands[node_id].extend(sent)
        repaired(metrics.MISSING_LAUNCH, len(sent), node_id=node_id)
        await advance(desk, lost)

    def _unreported(self, desk: Desk, node_id: NodeId, held: set[AttemptId], ended: set[AttemptId]) -> None:
        now, live = desk.picture.now(), desk.picture.live
        begun = {a for a in held - ended if (one := live[a].attempt) is not None and orders.untold(one, now)}
        if ended or begun:
            desk.commands[node_id].append(wire.Tell(tuple(ended | begun)))
        repaired(metrics.UNREPORTED_END, len(ended), node_id=node_id)

    async def _disown(self, desk: Desk, node_id: NodeId, strangers: set[AttemptId]) -> None:
        """Attempts a node has held for a while and the picture does not: over, superseded or unknown."""
        found, others = await tasks.by_attempt(desk.conn, list(strangers))
        desk.picture.leave_alone(others)
        over: list[AttemptId] = []
        for attempt_id in strangers - desk.picture.unread.keys():
            one = found.get(attempt_id)
            if one is None or one.attempt is None or one.attempt.state.terminal or one.attempt.node_id != node_id:
                over.append(attempt_id)
            else:
                desk.picture.refresh(one)
        if over:
            desk.forget(node_id, over)
        repaired(metrics.UNKNOWN_ATTEMPT, len(over), node_id=node_id)


def _had(picture: Picture, attempts: set[AttemptId]) -> set[AttemptId]:
    """Those a node has spoken of. Before that it may well not know one, for as long as the launch is under way."""
    known = {attempt_id: picture.live[attempt_id].attempt for attempt_id in attempts}
    return {attempt_id for attempt_id, attempt in known.items() if attempt is not None and attempt.state in _BEGUN}


def _still(last: Since, odd: set[AttemptId], now: float) -> tuple[Since, set[AttemptId]]:
    """What is odd, and since when; and what of it has been for long. That counts as new after it was dealt with."""
    old = {attempt_id for attempt_id in odd if attempt_id in last and now - last[attempt_id] >= ODD_S}
    return {attempt_id: now if attempt_id in old else last.get(attempt_id, now) for attempt_id in odd}, old
