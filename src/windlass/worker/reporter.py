"""Reports on their way to the leader, in batches.

An end goes out at once, with all that waits. A start waits a moment: for a short job the end comes with it in one
message, and the ledger writes once instead of twice.
"""

import asyncio
from collections.abc import Callable

import structlog

from windlass.core.ids import AttemptId, NodeId
from windlass.core.states import Cause
from windlass.stream import wire
from windlass.stream.produce import Producer, Receipt, StreamDown
from windlass.worker import clock
from windlass.worker.journal import Ended

log = structlog.get_logger("worker")

LAZY_S = 0.05
#: While more than this many attempts live, an end waits for others, GATHER_S for each that lives:
#: the ledger writes a batch at the price of one.
BUSY = 3
GATHER_S = 0.0002
GATHER_MOST_S = 0.004
RETRY_S = 0.5


class Reporter:
    """One per agent; `run` sends until cancelled."""

    def __init__(self, producer: Producer, node_id: NodeId, contact: Callable[[float], None] = lambda at: None) -> None:
        """`contact` is told when Redis has taken a beat: the moment before it was sent."""
        self._producer, self._node, self._contact = producer, node_id, contact
        self._begun: dict[AttemptId, float | None] = {}  # None: prepared only
        self._others: list[wire.Report] = []
        self._receipts: list[Receipt] = []
        self._ends: dict[AttemptId, Ended] = {}
        self._some = asyncio.Event()
        self._urgent = asyncio.Event()
        self.sent_at: dict[AttemptId, float] = {}
        self.live = 0  # attempts on this node, as the agent counts them

    def say(self, report: wire.Report) -> None:
        """Send this at once."""
        self._others.append(report)
        self._ring(urgent=True)

    def receipt(self, receipt: Receipt) -> None:
        """Let go of commands that were taken up, with whatever is sent next."""
        self._receipts.append(receipt)
        self._ring(urgent=False)

    def prepared(self, attempt_id: AttemptId) -> None:
        self._begun[attempt_id] = None
        self._ring(urgent=False)

    def started(self, attempt_id: AttemptId, at: float) -> None:
        self._begun[attempt_id] = at
        self._ring(urgent=False)

    def ended(self, attempt_id: AttemptId, ended: Ended) -> None:
        """Its end, which says when it started, too."""
        self._begun.pop(attempt_id, None)
        self._ends[attempt_id] = ended
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
        begun, others, ends = self._begun, self._others, self._ends
        self._begun, self._others, self._ends = {}, [], {}
        now = clock.now()
        messages: list[wire.Report] = [*others]
        for attempt_id, at in begun.items():
            messages.append(
                wire.Prepared(self._node, attempt_id) if at is None else wire.Started(self._node, attempt_id, now - at)
            )
        messages += [exited(self._node, attempt_id, ended, now) for attempt_id, ended in ends.items()]
        receipts, self._receipts = self._receipts, []
        if not messages and not receipts:
            return
        try:
            await self._producer.send(reports=messages, read=_joined(receipts))
        except StreamDown as error:
            log.warning("report_waits", error=str(error), waiting=len(messages))
            self._begun = begun | self._begun
            self._others = [m for m in others if not isinstance(m, wire.Beat)] + self._others
            self._ends = ends | self._ends
            self._receipts = receipts + self._receipts
            await asyncio.sleep(RETRY_S)
            self._ring(urgent=True)
        else:
            self.sent_at.update(dict.fromkeys(ends, now))
            if any(isinstance(message, wire.Beat) for message in others):
                self._contact(now)


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
