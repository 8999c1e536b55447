"""Shapes: what placement looks at, interned, so that a line of alike tasks is one index range."""

from collections.abc import Iterable, Mapping

from windlass.core.placement.snapshot import Room, Shape
from windlass.store.db import Conn

#: Makes the shapes that are new, and tells the numbers of all that were asked for.
INTERN = """
WITH wanted AS (
    SELECT DISTINCT * FROM unnest(%(drivers)s::text[], %(millis)s::integer[], %(memory)s::bigint[])
        AS w (driver, millis, memory)
), made AS (
    INSERT INTO shapes (driver, millis, memory) SELECT driver, millis, memory FROM wanted
    ON CONFLICT DO NOTHING RETURNING id, driver, millis, memory
)
SELECT id, driver, millis, memory FROM made
UNION SELECT s.id, s.driver, s.millis, s.memory FROM shapes s JOIN wanted USING (driver, millis, memory)
"""
ALL = "SELECT id, driver, millis, memory FROM shapes"


class Shapes:
    """The numbers of shapes, remembered: they never change."""

    LIMIT = 10_000

    def __init__(self) -> None:
        self._known: dict[Shape, int] = {}

    async def intern(self, conn: Conn, shapes: set[Shape]) -> Mapping[Shape, int]:
        """The number of each shape, made where new."""
        new = [shape for shape in shapes if shape not in self._known]
        if new:
            if len(self._known) + len(new) > self.LIMIT:
                self._known.clear()
                new = list(shapes)
            values = {
                "drivers": [str(s.driver) for s in new],
                "millis": [s.need.millis for s in new],
                "memory": [s.need.memory for s in new],
            }
            missing = {(s.driver, s.need.millis, s.need.memory): s for s in new}
            while missing:  # a shape another session commits between our two halves shows at the next look
                for number, *key in await (await conn.execute(INTERN, values)).fetchall():
                    shape = missing.pop(tuple(key), None)
                    if shape is not None:
                        self._known[shape] = number
        return self._known

    def known(self, shapes: Iterable[Shape]) -> set[int]:
        """The numbers of shapes that were interned a moment ago; one forgotten meanwhile is left out."""
        return {self._known[shape] for shape in shapes if shape in self._known}


async def every(conn: Conn) -> dict[int, Shape]:
    """All shapes by number."""
    rows = await (await conn.execute(ALL)).fetchall()
    return {number: Shape(driver, Room(millis, memory)) for number, driver, millis, memory in rows}
