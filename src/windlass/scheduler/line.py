"""The line: the heads of each shape's queue, read ahead, so that a free place is filled without asking first.

What is read ahead may be stale: a placement is written only if the row's version still stands, and a miss clears the
line. It is read again when it runs short, when something may rank before its tail, and once a second.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from windlass.core.ids import TaskId
from windlass.core.placement.snapshot import Pending
from windlass.store.tasks import UNKNOWN_SHAPE_LIMIT, Head, Live

#: Heads read ahead of each shape, as long as there are few shapes.
AHEAD = 64
FEW_SHAPES = 32


@dataclass(slots=True)
class Line:
    """Heads by task, in no order."""

    heads: dict[TaskId, Head] = field(default_factory=lambda: dict[TaskId, Head]())
    #: shapes of whose line only a part was read
    cut: set[int] = field(default_factory=lambda: set[int]())
    fresh: bool = False

    def clear(self) -> None:
        """What is known no longer holds."""
        self.fresh = False
        self.heads.clear()
        self.cut.clear()

    def fill(self, heads: list[Head], limits: Mapping[int, int]) -> None:
        """Take what was just read, with at most so many of each shape."""
        self.heads = {head.live.task.id: head for head in heads}
        counts = Counter(head.pending.shape for head in heads)
        self.cut = {shape for shape, n in counts.items() if n >= limits.get(shape, UNKNOWN_SHAPE_LIMIT)}
        self.fresh = True

    def remove(self, task_id: TaskId) -> Live:
        """This one is placed."""
        return self.heads.pop(task_id).live

    def covers(self, room: Mapping[int, int]) -> bool:
        """Whether as many of each shape are here as there may be room for, or as there are at all."""
        if not self.cut:
            return True
        counts = Counter(head.pending.shape for head in self.heads.values())
        return all(counts[shape] >= room.get(shape, 1) for shape in self.cut)

    def arrived(self, shapes: Collection[int], priority: int) -> None:
        """Tasks of these shapes (none: any) and of at most this priority have joined. Unless all of them rank behind
        what was read of their shapes, read again."""
        lowest = min((head.pending.priority for head in self.heads.values()), default=None)
        if not shapes or not self.cut.issuperset(shapes) or lowest is None or priority > lowest:
            self.clear()

    def pending(self) -> list[Pending]:
        """What the plan looks at."""
        return [head.pending for head in self.heads.values()]
