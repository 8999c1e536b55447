"""What the leader holds in memory: a warm copy of what it has committed, rebuilt from the ledger at election.

The ledger decides; the picture saves asking. It changes only in `settle`, with a step that was written.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from windlass.core.ids import AttemptId, NodeId
from windlass.core.placement.snapshot import NOTHING, Node, Room, Shape, shape_of
from windlass.core.task import Step, wake_at
from windlass.store.tasks import Live, Unread

log = structlog.get_logger("scheduler")

#: Further apart than this the database's clock has jumped; less may be an answer that waited for a lock.
JUMP_S = 12.0


@dataclass(slots=True)
class Picture:
    """Nodes, live attempts and clocks, as of the last commit."""

    nodes: dict[NodeId, Node] = field(default_factory=lambda: dict[NodeId, Node]())
    #: monotonic moment each node was last heard
    heard: dict[NodeId, float] = field(default_factory=lambda: dict[NodeId, float]())
    shapes: dict[int, Shape] = field(default_factory=lambda: dict[int, Shape]())
    live: dict[AttemptId, Live] = field(default_factory=lambda: dict[AttemptId, Live]())
    by_node: dict[NodeId, set[AttemptId]] = field(default_factory=lambda: defaultdict[NodeId, set[AttemptId]](set))
    used: dict[NodeId, Room] = field(default_factory=lambda: dict[NodeId, Room]())
    #: live attempts that this version cannot read, or not move, with what they reserve and where: they are left alone
    unread: dict[AttemptId, tuple[NodeId, Room]] = field(default_factory=lambda: dict[AttemptId, tuple[NodeId, Room]]())
    #: database seconds at which the next time limit falls, as far as known
    next_due: float = 0.0
    _offset: float | None = None
    _apart: float = 0.0

    def set_clock(self, database_now: float) -> None:
        """Take the database's clock as just read. One that has jumped is not followed: for this term time goes on
        steadily, so that no limit falls early and none is put off."""
        offset = database_now - time.monotonic()
        apart = 0.0 if self._offset is None else offset - self._offset
        if abs(apart) < JUMP_S:
            self._offset, self._apart = offset, 0.0
        elif abs(apart - self._apart) >= JUMP_S:
            self._apart = apart
            log.warning("database_clock_jumped", by_s=round(apart, 1))

    def now(self) -> float:
        """Database seconds, carried on by this machine's monotonic clock."""
        return time.monotonic() + (self._offset or 0.0)

    def load(
        self, nodes: Iterable[Node], live: Iterable[Live], shapes: dict[int, Shape], unread: Iterable[Unread] = ()
    ) -> None:
        """Begin anew from the ledger."""
        moment = time.monotonic()
        self.nodes = {node.id: node for node in nodes}
        self.heard = dict.fromkeys(self.nodes, moment)
        self.shapes = dict(shapes)
        self.live, self.used, self.unread = {}, {}, {}
        self.by_node.clear()
        for one in live:
            self._enter(one)
        self.leave_alone(unread)
        self.next_due = 0.0

    def settle(self, step: Step, spec_text: str) -> None:
        """A step was written: show it."""
        task = replace(step.task, version=step.base + 1)
        attempt = step.attempt
        if attempt is not None:
            self._leave(attempt.id)
            if not attempt.state.terminal:
                self._enter(Live(task, attempt, spec_text))
        due = wake_at(task, attempt)
        if due is not None:
            self.next_due = min(self.next_due, due)

    def drop(self, attempt_id: AttemptId) -> None:
        """Something else moved this task: what is known of it no longer counts."""
        self._leave(attempt_id)

    def refresh(self, one: Live) -> None:
        """Take a row as just read."""
        if one.attempt is not None:
            self._leave(one.attempt.id)
            if not one.attempt.state.terminal:
                self._enter(one)

    def leave_alone(self, unread: Iterable[Unread]) -> None:
        """Live attempts of tasks that cannot be read or moved: the room they reserve is known, and no more."""
        for one in unread:
            if one.attempt_id is not None and one.node_id is not None:
                self._leave(one.attempt_id)
                shape = self.shapes.get(one.shape)
                need = NOTHING if shape is None else shape.need
                self.unread[one.attempt_id] = one.node_id, need
                self.used[one.node_id] = self.used.get(one.node_id, NOTHING) + need

    def _need(self, one: Live) -> Room:
        """What it reserves. Its shape is not known here when another leader placed it meanwhile."""
        return (self.shapes.get(one.task.shape) or shape_of(one.task.spec)).need

    def _enter(self, one: Live) -> None:
        assert one.attempt is not None
        node_id = one.attempt.node_id
        self.live[one.attempt.id] = one
        self.by_node[node_id].add(one.attempt.id)
        self.used[node_id] = self.used.get(node_id, NOTHING) + self._need(one)

    def _leave(self, attempt_id: AttemptId) -> None:
        one = self.live.pop(attempt_id, None)
        if one is not None and one.attempt is not None:
            node_id = one.attempt.node_id
            self.by_node[node_id].discard(attempt_id)
            self.used[node_id] = self.used[node_id] - self._need(one)
        if attempt_id in self.unread:
            node_id, need = self.unread.pop(attempt_id)
            self.used[node_id] = self.used[node_id] - need

    def fleet(self, freed: Mapping[NodeId, Room]) -> list[Node]:
        """The nodes with what is reserved on them, less what is being given back."""
        return [
            replace(node, used=self.used.get(node.id, NOTHING) - freed.get(node.id, NOTHING))
            for node in self.nodes.values()
        ]

    def room_of(self, attempts: Mapping[NodeId, Iterable[AttemptId]]) -> dict[NodeId, Room]:
        """What these live attempts reserve, by node."""
        return {
            node_id: sum((self._need(self.live[a]) for a in ids if a in self.live), NOTHING)
            for node_id, ids in attempts.items()
        }
