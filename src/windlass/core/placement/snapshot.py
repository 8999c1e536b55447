"""What the plan looks at: nodes with their room, shapes of work, and the heads of the line. Integers only: thousandths
of a core and bytes, so that sums are exact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from windlass.core.ids import NodeId, TaskId
from windlass.core.spec import JobSpec
from windlass.core.states import Driver, NodeState


@dataclass(frozen=True, slots=True)
class Room:
    """An amount of what nodes have and tasks need."""

    millis: int
    memory: int

    def __add__(self, other: "Room") -> "Room":
        return Room(self.millis + other.millis, self.memory + other.memory)

    def __sub__(self, other: "Room") -> "Room":
        return Room(self.millis - other.millis, self.memory - other.memory)

    def holds(self, need: "Room") -> bool:
        """Whether need fits in here."""
        return need.millis <= self.millis and need.memory <= self.memory

    def times(self, need: "Room") -> int:
        """How many of need go into this."""
        return min(self.millis // max(need.millis, 1), self.memory // max(need.memory, 1))


NOTHING = Room(0, 0)


@dataclass(frozen=True, slots=True)
class Shape:
    """What placement needs to know of a task; tasks that share it are planned as one group. A `driver` whose name this
    version does not know is one that no node offers."""

    driver: str
    need: Room


def shape_of(spec: JobSpec) -> Shape:
    """The shape of a spec."""
    return Shape(spec.driver, Room(round(spec.resources.cpu * 1000), spec.resources.memory))


@dataclass(frozen=True, slots=True)
class Node:
    """A machine as the leader sees it. `used` sums what its live attempts reserve.

    An operator may have it `cordoned` or `draining`; its worker may be `leaving`: about to end."""

    id: NodeId
    name: str
    state: NodeState
    cordoned: bool
    drivers: frozenset[Driver]
    capacity: Room
    used: Room = NOTHING
    draining: bool = False
    leaving: bool = False

    @property
    def open(self) -> bool:
        """Whether anything may be placed there at all."""
        return self.state is NodeState.READY and not (self.cordoned or self.draining or self.leaving)

    @property
    def free(self) -> Room:
        return self.capacity - self.used


@dataclass(frozen=True, slots=True)
class Pending:
    """A queued task. Order: higher priority first, then the smaller `seq` (order of arrival)."""

    task_id: TaskId
    shape: int
    priority: int
    seq: int
    queued_at: float

    @property
    def rank(self) -> tuple[int, int]:
        return (-self.priority, self.seq)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment. `pending` holds the heads of each shape's line, in any order; moments are database seconds."""

    nodes: Sequence[Node]
    shapes: Mapping[int, Shape]
    pending: Sequence[Pending]
