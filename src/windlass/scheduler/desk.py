"""What every duty works with: one connection to the ledger, the streams, the term, the picture; and the one way in
which steps are written and their consequences sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from windlass import crash
from windlass.core.events import LaunchCommand
from windlass.core.ids import AttemptId, JobId, NodeId
from windlass.core.placement.scores import Policy
from windlass.core.states import TaskState
from windlass.core.task import Step
from windlass.scheduler.line import Line
from windlass.scheduler.picture import Picture
from windlass.scheduler.presence import Presence
from windlass.store import outbox
from windlass.store.apply import apply
from windlass.store.db import Conn
from windlass.stream import orders, wire
from windlass.stream.consume import GroupReader
from windlass.stream.produce import Producer, StreamDown


@dataclass(frozen=True, slots=True)
class Rules:
    """The scheduler's settings as values. Names ending in _s are seconds."""

    policy: Policy = Policy.BEST_FIT
    reserve_after_s: float = 60.0
    node_suspect_s: float = 6.0
    node_lost_s: float = 15.0


@dataclass(slots=True)
class Desk:
    """The leader's means during one term."""

    conn: Conn
    producer: Producer
    reader: GroupReader[wire.Report]
    term: int
    rules: Rules
    presence: Presence = field(default_factory=Presence)
    picture: Picture = field(default_factory=Picture)
    line: Line = field(default_factory=Line)
    #: outbox rows that were shipped and can go
    sent: list[int] = field(default_factory=lambda: list[int]())
    #: messages that wait for the next send
    commands: dict[NodeId, list[wire.CommandOut]] = field(
        default_factory=lambda: defaultdict[NodeId, list[wire.CommandOut]](list)
    )
    ended: list[JobId] = field(default_factory=lambda: list[JobId]())
    happened: bool = False
    _unsent: list[int] = field(default_factory=lambda: list[int]())

    async def write(self, steps: Sequence[Step], texts: Mapping[str, str]) -> list[Step]:
        """Write steps under the term and settle what moved; `texts` are specs by task id. Returns the ones that did
        not move, because something else moved them first. Raises Fenced, Unavailable."""
        sent = tuple(self.sent)
        applied = await apply(self.conn, steps, term=self.term, sent=sent)
        crash.point("scheduler.committed")
        del self.sent[: len(sent)]
        self.picture.set_clock(applied.now)
        left: list[Step] = []
        for step in steps:
            if step.task.id in applied.moved:
                self._settled(step, texts[step.task.id])
            else:
                left.append(step)
        self._unsent.extend(applied.outbox)
        self.happened = self.happened or bool(applied.moved)
        return left

    def _settled(self, step: Step, text: str) -> None:
        self.picture.settle(step, text)
        for command in step.commands:
            if step.attempt is not None and step.attempt.id == command.attempt_id:
                if isinstance(command, LaunchCommand):
                    order = orders.launch(step.task, step.attempt, text, self.picture.now())
                else:
                    order = orders.stop(step.attempt)
                self.commands[command.node_id].append(order)
        attempt, task = step.attempt, step.task
        if attempt is not None and attempt.state.terminal:
            self.forget(attempt.node_id, [attempt.id])
        if task.state is TaskState.QUEUED:
            self.line.clear()
        if task.state.terminal:
            self.ended.append(task.job_id)

    async def clear_sent(self) -> None:
        """Delete outbox rows that were shipped, when no write came by to do it."""
        if self.sent:
            done, self.sent = self.sent, []
            await outbox.clear(self.conn, done, term=self.term)

    def adopt(self, outbox_ids: Iterable[int]) -> None:
        """Outbox rows whose commands go out with the next send."""
        self._unsent.extend(outbox_ids)

    def shipping(self, outbox_id: int) -> bool:
        """Whether this row's commands are on their way, or sent, by this leader."""
        return outbox_id in self._unsent or outbox_id in self.sent

    def forget(self, node_id: NodeId, attempt_ids: Iterable[AttemptId]) -> None:
        """Tell a node, with the next send, that the ledger has these outcomes."""
        self.commands[node_id].append(wire.Forget(tuple(attempt_ids)))

    async def flush(self) -> None:
        """Send what waits, and let go of what was read. A failure costs time, not work: the sweep repairs it."""
        news: list[wire.News] = []
        if self.ended:
            news.append(wire.Ended(tuple(self.ended)))
        if self.happened or self.producer.down:  # while it is down, there is always something to try it with
            news.append(wire.Happened())
        commands = {node: _merged(queued) for node, queued in self.commands.items() if queued}
        self.ended, self.happened = [], False
        self.commands.clear()
        unsent, self._unsent = self._unsent, []
        receipt = self.reader.receipt()
        try:
            await self.producer.send(commands=commands, news=news, read=receipt)
        except StreamDown:
            self.reader.keep(receipt)
        else:
            self.sent.extend(unsent)

    @property
    def deaf(self) -> bool:
        """Whether the stream takes nothing or gives nothing: workers come over the API's exchange."""
        return self.producer.down or self.reader.down


def _merged(queued: list[wire.CommandOut]) -> list[wire.CommandOut]:
    """Many Forgets as one."""
    gone = [order for order in queued if isinstance(order, wire.Forget)]
    if len(gone) < 2:
        return queued
    others = [order for order in queued if not isinstance(order, wire.Forget)]
    return [*others, wire.Forget(tuple(a for order in gone for a in order.attempt_ids))]
