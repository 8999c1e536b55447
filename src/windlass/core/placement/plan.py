"""The plan: queued tasks -> nodes, never more than a node has.

Order is priority, then arrival. A task that fits nowhere now is passed by those behind it that do fit, but not for
ever: once it has waited `reserve_after_s`, the node that will suit it soonest is reserved: nothing that ranks behind
it is placed there until it fits. One reservation at a time, for the first such task in line.

Tasks are grouped by shape, so a deep line of alike tasks costs one failed fit, not one each.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from windlass.core.ids import NodeId, TaskId
from windlass.core.placement.filters import could_fit, fits
from windlass.core.placement.scores import Policy, score
from windlass.core.placement.snapshot import Node, Pending, Room, Shape, Snapshot

_Heap = list[tuple[tuple[float, str], NodeId]]


@dataclass(frozen=True, slots=True)
class Placement:
    """One decision."""

    task_id: TaskId
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions in rank order; shapes some task of which had to wait; and the reservation, if one stands."""

    placements: tuple[Placement, ...]
    blocked: frozenset[int]
    reserved: Placement | None


@dataclass(slots=True)
class _Fleet:
    """The nodes while the plan is being made: free room shrinks as tasks are placed."""

    policy: Policy
    nodes: Mapping[NodeId, Node]
    free: dict[NodeId, Room]
    closed: set[NodeId] = field(default_factory=lambda: set[NodeId]())
    heaps: dict[int, _Heap] = field(default_factory=lambda: dict[int, _Heap]())
    #: every node that was taken from, in order, and how much of that each heap has seen
    taken: list[NodeId] = field(default_factory=lambda: list[NodeId]())
    seen: dict[int, int] = field(default_factory=lambda: dict[int, int]())

    def take(self, key: int, shape: Shape) -> NodeId | None:
        """The best node for one more task of this shape, its room taken; None when there is none."""
        heap = self._heap(key, shape)
        while heap:
            known, node_id = heap[0]
            free = self.free[node_id]
            if node_id not in self.closed and free.holds(shape.need) and known == self._score(node_id):
                self.free[node_id] = free - shape.need
                self.taken.append(node_id)
                return node_id
            heapq.heappop(heap)
        return None

    def _heap(self, key: int, shape: Shape) -> _Heap:
        """The nodes that could take this shape, the best on top; those taken from since are in it anew."""
        heap = self.heaps.get(key)
        if heap is None:
            heap = [(self._score(node.id), node.id) for node in self.nodes.values() if fits(node, shape)]
            heapq.heapify(heap)
            self.heaps[key] = heap
        else:
            for node_id in dict.fromkeys(self.taken[self.seen[key] :]):
                if fits(self.nodes[node_id], shape):
                    heapq.heappush(heap, (self._score(node_id), node_id))
        self.seen[key] = len(self.taken)
        return heap

    def _score(self, node_id: NodeId) -> tuple[float, str]:
        return score(self.policy, self.free[node_id], self.nodes[node_id])

    def soonest(self, shape: Shape) -> NodeId | None:
        """The node that lacks least for this shape, to be kept for it."""
        able = [node for node in self.nodes.values() if could_fit(node, shape)]
        return min(able, key=lambda n: (self._lacks(n, shape), n.name)).id if able else None

    def _lacks(self, node: Node, shape: Shape) -> float:
        free, need = self.free[node.id], shape.need
        cpu = max(0, need.millis - free.millis) / max(node.capacity.millis, 1)
        return cpu + max(0, need.memory - free.memory) / max(node.capacity.memory, 1)


def plan(snapshot: Snapshot, now: float, *, policy: Policy = Policy.BEST_FIT, reserve_after_s: float = 60.0) -> Plan:
    """Decide where the heads of the line go. Deterministic; `now` is in database seconds."""
    fleet = _Fleet(policy, {n.id: n for n in snapshot.nodes}, {n.id: n.free for n in snapshot.nodes})
    placements: list[Placement] = []
    blocked: set[int] = set()
    reserved: Placement | None = None
    for task in _in_rank(snapshot.pending):
        shape = snapshot.shapes[task.shape]
        node_id = None if task.shape in blocked else fleet.take(task.shape, shape)
        if node_id is not None:
            placements.append(Placement(task.task_id, node_id))
            continue
        blocked.add(task.shape)
        if reserved is None and now - task.queued_at >= reserve_after_s:
            kept = fleet.soonest(shape)
            if kept is not None:
                reserved = Placement(task.task_id, kept)
                fleet.closed.add(kept)
    return Plan(tuple(placements), frozenset(blocked), reserved)


def _in_rank(pending: Iterable[Pending]) -> Iterable[Pending]:
    """Every shape's line merged into one by rank."""
    lines: dict[int, list[Pending]] = defaultdict(list)
    for task in pending:
        lines[task.shape].append(task)
    ordered = [sorted(line, key=lambda t: t.rank) for line in lines.values()]
    return heapq.merge(*ordered, key=lambda t: t.rank)
