"""The fence: whatever a leader writes, it writes nothing once its term is over, and hears so."""

from collections.abc import Awaitable, Callable

import pytest

from tests.builders import Ledger, a_node, a_spec
from windlass.core.events import Exited
from windlass.core.states import NodeState
from windlass.errors import Fenced
from windlass.store import jobs, leases, nodes, outbox

NODE = a_node("one")
Write = Callable[[Ledger, int], Awaitable[object]]


async def _upsert(ledger: Ledger, term: int) -> None:
    await nodes.upsert(ledger.conn, NODE, version="new", labels={}, facts={}, term=term)


async def _prune(ledger: Ledger, term: int) -> None:
    await jobs.delete(ledger.conn, await jobs.expired(ledger.conn), term=term)


async def _clear(ledger: Ledger, term: int) -> None:
    await outbox.clear(ledger.conn, [row.id for row in await outbox.unsent(ledger.conn, 0)], term=term)


WRITES: dict[str, Write] = {
    "apply": lambda ledger, term: ledger.write(term=term, sent=[1]),
    "prune": _prune,
    "clear": _clear,
    "upsert": _upsert,
    "beat": lambda ledger, term: nodes.beat(ledger.conn, [NODE.id], term=term),
    "set_state": lambda ledger, term: nodes.set_state(ledger.conn, NODE.id, NodeState.LOST, term=term),
}
EVERYTHING = """
SELECT md5(string_agg(t, '' ORDER BY t)) FROM (
    SELECT x::text AS t FROM tasks x UNION ALL SELECT x::text FROM nodes x UNION ALL SELECT x::text FROM outbox x
    UNION ALL SELECT x::text FROM attempts x UNION ALL SELECT x::text FROM jobs x) r
"""


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_under_a_former_term_changes_nothing_and_says_so(ledger: Ledger, write: Write) -> None:
    former = await ledger.lead("former")
    await nodes.upsert(ledger.conn, NODE, version="old", labels={}, facts={}, term=former)
    over, _ = await ledger.submit(a_spec(ttl_after_finished=0), a_spec())
    await ledger.place(over, NODE, term=former)
    await ledger.move(over, Exited(1.0), term=former)
    await leases.expire(ledger.conn, former)
    term = await ledger.lead("next")
    before = await ledger.one(EVERYTHING)
    with pytest.raises(Fenced, match=f"term {former} is over"):
        await write(ledger, former)
    assert await ledger.one(EVERYTHING) == before
    await write(ledger, term)
    assert await ledger.one(EVERYTHING) != before
