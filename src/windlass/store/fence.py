"""The fence: every write of a leader carries its term, and is nothing once that term is over.

A share lock on the lease's row makes a takeover wait for the write's commit; a statement of a former leader finds no
row with its term, writes nothing, and its caller is told.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

from windlass.errors import Fenced
from windlass.store.db import Conn, unavailable

#: The first part of a leader's WITH; what the others write, they write where EXISTS (SELECT FROM fence).
FENCE: Final[LiteralString] = (
    "fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE)"
)


async def write(conn: Conn, statement: LiteralString, values: Mapping[str, Any], term: int | None) -> Sequence[Any]:
    """Run a statement with FENCE; its one row, whose first column is the fence's term. With no term the
    statement says itself that it needs none. Raises Fenced, Unavailable."""
    with unavailable():
        row = await (await conn.execute(statement, {**values, "term": term})).fetchone()
    assert row is not None
    if row[0] != term:
        raise Fenced(f"term {term} is over: nothing was written")
    return row
