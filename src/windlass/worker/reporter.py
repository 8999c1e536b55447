"""Reports on their way to the leader, in batches.

An end goes out at once, with all that waits. A start waits a moment: for a short job the end comes with it in one
message, and the ledger writes once instead of twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from windlass.core.ids import AttemptId, NodeId
from windlass.core.states import Cause
from windlass.stream import wire
from windlass.stream.produce import Producer, Receipt, StreamDown
from windlass.worker import clock
from windlass.worker.journal import Ended

LAZY_S = 0.05
#: While more than this many attempts live, an end waits for others, GATHER_S for each that lives:
#: the ledger writes a batch at the price of one.
BUSY = 3
GATHER_S = 0.0002
GATHER_MOST_S = 0.004
RETRY_S = 0.5


@dataclass(slots=True)
class Waiting:
    """Reports that are to be sent, with moments; they become messages, with ages, when they go."""

    begun: dict[AttemptId, float | None] = field(default_factory=lambda: dict[AttemptId, float | None]())
    others: list[wire.Report] = field(default_factory=lambda: list[wire.Report]())
    ends: dict[AttemptId, Ended] = field(default_factory=lambda: dict[AttemptId, Ended]())

    def messages(self, node_id: NodeId, now: float) -> list[wire.Report]:
        """As they are told at this moment."""
        told: list[wire.Report] = [*self.others]
        for attempt_id, at in self.begun.items():
            told.append(
                wire.Prepared(node_id, attempt_id) if at is None else wire.Started(node_id, attempt_id, now - at)
            )
        return told + [exited(node_id, attempt_id, ended, now) for attempt_id, ended in self.ends.items()]

    def before(self, later: "Waiting") -> "Waiting":
        """These, then those. Old beats say nothing, and an end says when it began."""
        begun = {a: at for a, at in self.begun.items() if a not in later.ends} | later.begun
        others = [m for m in self.others if not isinstance(m, wire.Beat)] + later.others
        return Waiting(begun, others, self.ends | later.ends)

    def without(self, told: "Waiting") -> "Waiting":
        """These less what was told meanwhile."""
        others = {id(message) for message in told.others}
        return Waiting(
            {a: at for a, at in self.begun.items() if a not in told.begun or told.begun[a] != at},
            [message for message in self.others if id(message) not in others],
            {a: ended for a, ended in self.ends.items() if told.ends.get(a) is not ended},
        )


class Reporter:
    """One per agent; `run` sends until cancelled. `contact` is told when Redis has taken a beat: the moment before it
    was sent.

    What Redis does not take waits here, and the exchange may deliver it instead."""

    def __init__(self, producer: Producer, node_id: NodeId, contact: Callable[[float], None] = lambda at: None) -> None:
        self._producer, self._node, self._contact = producer, node_id, contact
        self._waiting, self._copies = Waiting(), Waiting()
        self._receipts: list[Receipt] = []
        self._some = asyncio.Event()
        self._urgent = asyncio.Event()
        self.sent_at: dict[AttemptId, float] = {}
        self.live = 0  # attempts on this node, as the agent counts them
        self._copy = False

    @property
    def down(self) -> bool:
        """Whether Redis did not take the last message."""
        return self._producer.down

    def say(self, report: wire.Report) -> None:
        """Send this at once."""
        self._waiting.others.append(report)
        self._ring(urgent=True)

    def receipt(self, receipt: Receipt) -> None:
        """Let go of commands that were taken up, with whatever is sent next."""
        self._receipts.append(receipt)
        self._ring(urgent=False)

    def prepared(self, attempt_id: AttemptId) -> None:
        self._waiting.begun[attempt_id] = None
        self._ring(urgent=False)

    def started(self, attempt_id: AttemptId, at: float) -> None:
        self._waiting.begun[attempt_id] = at
        self._ring(urgent=False)

    def ended(self, attempt_id: AttemptId, ended: Ended) -> None:
        """Its end, which says when it started, too."""
        self._waiting.begun.pop(attempt_id, None)
        self._waiting.ends[attempt_id] = ended
        self._ring(urgent=True)

    def _ring(self, *, urgent: bool) -> None:
        self._some.set()
        if urgent:
            self._urgent.set()

    async def run(self) -> None:
        """Send what comes, for ever. What could not be sent is kept and tried again."""
        while True:
            await self._some.wait()
            if not self._urgent.is_set():
                try:
                    async with asyncio.timeout(LAZY_S):
                        await self._urgent.wait()
                except TimeoutError:
                    pass
            if self.live > BUSY:
                await asyncio.sleep(min(self.live * GATHER_S, GATHER_MOST_S))
            await self.flush()

    async def flush(self) -> None:
        """Send all that waits."""
        self._some.clear()
        self._urgent.clear()
        batch, self._waiting = self._waiting, Waiting()
        receipts, self._receipts = self._receipts, []
        now = clock.now()
        messages = batch.messages(self._node, now)
        if not messages and not receipts:
            return
        try:
            await self._producer.send(reports=messages, read=_joined(receipts))
        except StreamDown:
            self._waiting = batch.before(self._waiting)
            self._receipts = receipts + self._receipts
            await self._producer.opened(RETRY_S)
            self._ring(urgent=True)
            return
        self.sent_at.update(dict.fromkeys(batch.ends, now))
        if any(isinstance(message, wire.Beat) for message in batch.others):
            self._contact(now)
        if self._copy:
            self._copies = self._copies.before(batch)

    def copying(self, on: bool) -> None:
        """Keep a copy for the exchange of what Redis takes from now on, or no longer."""
        self._copy = on
        if not on:
            self._copies = Waiting()

    def offered(self) -> Waiting:
        """What the exchange should deliver; beats it makes its own."""
        return self._copies.before(self._waiting if self._producer.down else Waiting()).before(Waiting())

    def delivered(self, batch: Waiting) -> None:
        """The exchange has delivered these."""
        self.sent_at.update(dict.fromkeys(batch.ends, clock.now()))
        self._copies, self._waiting = self._copies.without(batch), self._waiting.without(batch)


def _joined(receipts: list[Receipt]) -> Receipt | None:
    if not receipts:
        return None
    first = receipts[0]
    return Receipt(first.key, first.group, [entry for receipt in receipts for entry in receipt.ids])


def exited(node_id: NodeId, attempt_id: AttemptId, ended: Ended, now: float) -> wire.Exited | wire.Refused:
    """The report of an end; one that never began because the node refused it is a refusal."""
    if ended.cause is Cause.REJECTED:
        return wire.Refused(node_id, attempt_id, ended.message)
    began = None if ended.started_at is None else max(0.0, now - ended.started_at)
    return wire.Exited(
        node_id, attempt_id, max(0.0, now - ended.at), ended.cause, ended.exit_code, ended.message, began
    )
