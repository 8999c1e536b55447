"""Demand: how many workers all that waits and runs would need, for whoever starts and ends workers by it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from windlass.core.placement.snapshot import NOTHING, Node, Room, Shape
from windlass.core.states import NodeState


@dataclass(frozen=True, slots=True)
class Demand:
    """How many tasks of one shape wait to be placed, and how many are live."""

    shape: Shape
    waiting: int
    live: int

    @property
    def tasks(self) -> int:
        return self.waiting + self.live


@dataclass(frozen=True, slots=True)
class Scale:
    """The answer: so many workers of this size (None while no worker was ever seen), and how many waiting tasks are
    too big for one of them, however many there are."""

    workers: int
    size: Room | None
    unplaceable: int


def worker_size(nodes: Sequence[Node]) -> Room | None:
    """What one more worker can be expected to bring: the smallest of those there are, else of those there were."""
    present = [node for node in nodes if node.state is not NodeState.LOST] or nodes
    return min((node.capacity for node in present), key=lambda room: (room.millis, room.memory), default=None)


def scale(demand: Iterable[Demand], size: Room | None) -> Scale:
    """How many workers of that size hold all of it at once. Of each shape as many go into one worker as fit there,
    so what two shapes leave over in a worker is not counted as room."""
    wanted = list(demand)
    if size is None:  # the first one tells the size
        return Scale(int(any(one.tasks for one in wanted)), None, 0)
    workers, unplaceable = Fraction(0), 0
    for one in wanted:
        each = size.times(one.shape.need)
        if each:
            workers += Fraction(one.tasks, each)
        else:
            unplaceable += one.waiting
    return Scale(math.ceil(workers), size, unplaceable)


def total(parts: Iterable[tuple[Shape, int]]) -> tuple[int, Room]:
    """How many tasks these are, and what they need together."""
    tasks, room = 0, NOTHING
    for shape, count in parts:
        tasks, room = tasks + count, room + Room(shape.need.millis * count, shape.need.memory * count)
    return tasks, room
