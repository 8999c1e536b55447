"""The lease: one holder, a term that only grows, a bell that rings when a session ends."""

import asyncio

from tests.builders import Ledger
from tests.store.conftest import Connect
from tests.support import wait_until
from windlass.store import leases


async def test_one_of_many_wins(another: Connect) -> None:
    conns = [await another() for _ in range(5)]
    terms = await asyncio.gather(*(leases.take(conn, f"h{n}", 60) for n, conn in enumerate(conns)))
    assert sorted(t for t in terms if t is not None) == [1]


async def test_a_lease_lapses_and_the_term_grows(ledger: Ledger) -> None:
    assert await leases.take(ledger.conn, "a", 0.05) == 1
    await wait_until(lambda: lapsed(ledger), "the lapse")
    assert await leases.renew(ledger.conn, "a", 1, 0.01), "nobody took it: it may be kept"
    await wait_until(lambda: lapsed(ledger), "the lapse")
    assert await leases.take(ledger.conn, "b", 60) == 2
    assert not await leases.renew(ledger.conn, "a", 1, 60)
    found = await leases.leader(ledger.conn)
    assert found is not None
    assert (found.holder, found.term, found.live) == ("b", 2, True)


async def lapsed(ledger: Ledger) -> bool:
    found = await leases.leader(ledger.conn)
    return found is not None and not found.live


async def test_resigning_lets_the_next_one_in_at_once(ledger: Ledger) -> None:
    term = await ledger.lead("a")
    await leases.resign(ledger.conn, "someone else", term)
    assert await leases.take(ledger.conn, "b", 60) is None
    await leases.resign(ledger.conn, "a", term)
    assert await leases.take(ledger.conn, "b", 60) == term + 1


async def test_the_bell_passes_on_when_its_session_ends(another: Connect) -> None:
    first, second = await another(), await another()
    assert await leases.hold_bell(first)
    assert not await leases.hold_bell(second)
    await first.close()
    await wait_until(lambda: leases.hold_bell(second), "the bell")
