"""What every duty works with: one connection to the ledger, the streams, the term, the picture; and the one way in
which steps are written and their consequences sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
import structlog

from windlass import __version__, crash, tracing
from windlass import metrics as common
from windlass.core.attempt import step as core_step
from windlass.core.events import Event, Ignored, LaunchCommand
from windlass.core.ids import AttemptId, JobId, NodeId
from windlass.core.placement.scores import Policy
from windlass.core.states import TaskState
from windlass.core.task import Attempt, Step, Task
from windlass.core.trace import place_span
from windlass.metrics import scheduler as metrics
from windlass.repairs import repaired
from windlass.scheduler.line import Line
from windlass.scheduler.picture import Picture
from windlass.scheduler.presence import Presence
from windlass.store import outbox, park
from windlass.store.apply import apply
from windlass.store.db import Conn
from windlass.store.tasks import Live, Unread, said, unread
from windlass.stream import orders, wire
from windlass.stream.consume import GroupReader
from windlass.stream.produce import Producer, StreamDown

log = structlog.get_logger("scheduler")

#: Seconds until a parked task is looked at again.
PARKED_S = 60.0


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
    #: tasks that this version could not move just now
    stuck: list[Unread] = field(default_factory=lambda: list[Unread]())
    _unsent: list[int] = field(default_factory=lambda: list[int]())

    def step(self, one: Live, event: Event, now: float) -> Step | Ignored | None:
        """What an event makes of a task; None when this version gets nowhere with it. Then it is stuck: whoever asks
        parks it, and the others go on."""
        try:
            return core_step(one.task, one.attempt, event, now)
        except Exception as error:
            log.exception("step_failed", job_id=one.task.job_id, task_id=one.task.id)
            self.stuck.append(unread(one, _stuck(error)))
            return None

    async def park(self, found: Sequence[Unread] = ()) -> None:
        """Leave what is stuck, and what was `found` that cannot be read, to a leader that can: nothing is done about
        live attempts, and what waits leaves the line. Raises Fenced, Unavailable."""
        put, self.stuck = [*self.stuck, *found], []
        if not put:
            return
        self.picture.leave_alone(put)
        self.line.clear()
        until = self.picture.now() + PARKED_S
        news = await park.put(self.conn, put, until, term=self.term)
        self.picture.next_due = min(self.picture.next_due, until)
        self.happened = self.happened or bool(news)
        told = {one.job_id: one.why for one in put if one.task_id in news}
        repaired(common.POISON_TASK, len(told), jobs=told)

    async def write(self, steps: Sequence[Step], texts: Mapping[str, str]) -> list[Step]:
        """Write steps under the term and settle what moved; `texts` are specs by task id. Returns the ones that did
        not move, because something else moved them first, or the ledger cannot hold what they say: those are
        parked. Raises Fenced, Unavailable."""
        sent = tuple(self.sent)
        try:
            with metrics.LEDGER_WRITE.time():
                applied = await apply(self.conn, steps, term=self.term, sent=sent)
        except psycopg.DataError as error:
            return await self._write_singly(steps, texts, error)
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

    async def _write_singly(self, steps: Sequence[Step], texts: Mapping[str, str], error: Exception) -> list[Step]:
        """One of them is at fault: each stands for itself, and what leans on the others comes last."""
        if len(steps) == 1:
            await self.park([_culprit(steps[0], _stuck(error))])
            return list(steps)
        left: list[Step] = []
        for step in sorted(steps, key=lambda step: step.places):
            short = step.places and any(not one.places for one in left)  # room it may count on was not given back
            left += [step] if short else await self.write([step], texts)
        return left

    def _settled(self, step: Step, text: str) -> None:
        metrics.count(step)
        self.picture.settle(step, text)
        for command in step.commands:
            if step.attempt is not None and step.attempt.id == command.attempt_id:
                if isinstance(command, LaunchCommand):
                    order = orders.launch(step.task, step.attempt, text, self.picture.now())
                    self._trace(step.task, step.attempt)
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

    def _trace(self, task: Task, attempt: Attempt) -> None:
        """The span of a placement: from when the task came into the line until this was committed."""
        if task.trace is None or not tracing.on():
            return
        about = {
            "windlass.job.id": task.job_id,
            "windlass.attempt.id": attempt.id,
            "windlass.node.name": attempt.node_name,
        }
        span = tracing.begin(
            "place",
            task.trace,
            kind="producer",
            span_id=place_span(task.id, attempt.number),
            attributes=about | {"windlass.attempt.number": attempt.number, "windlass.term": self.term},
            began_s=task.queued_at,
        )
        span.end(at_s=self.picture.now())

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


def _stuck(error: Exception) -> str:
    return f"version {__version__} gets nowhere with it: {type(error).__name__}: {said(error)}"


def _culprit(step: Step, why: str) -> Unread:
    """The task of a step that could not be written, as it stands in the ledger."""
    task, attempt = step.task, None if step.places else step.attempt
    state = TaskState.QUEUED if step.places else TaskState.BACKOFF if attempt is None else TaskState.ACTIVE
    where = (None, None) if attempt is None else (attempt.id, attempt.node_id)
    return Unread(task.id, task.job_id, step.base, task.shape, state, task.reason, why, *where)


def _merged(queued: list[wire.CommandOut]) -> list[wire.CommandOut]:
    """Many Forgets as one."""
    gone = [order for order in queued if isinstance(order, wire.Forget)]
    if len(gone) < 2:
        return queued
    others = [order for order in queued if not isinstance(order, wire.Forget)]
    return [*others, wire.Forget(tuple(a for order in gone for a in order.attempt_ids))]
