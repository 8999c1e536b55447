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


async def test_the_bell_falls_silent_when_its_session_ends(ledger: Ledger, another: Connect) -> None:
    holder = await another()
    term = await leases.take(holder, "a", 60)
    assert term is not None
    assert not await leases.silent(ledger.conn, term)
    await holder.close()
    await wait_until(lambda: leases.silent(ledger.conn, term), "the silence")
    assert await leases.silent(ledger.conn, term), "looking does not take it"


async def test_a_bell_is_of_its_term_only(ledger: Ledger, another: Connect) -> None:
    """Who led before and lives on says nothing of who leads now."""
    old, new = await another(), await another()
    assert await leases.take(old, "old", 60) == 1
    await leases.expire(ledger.conn, 1)
    assert await leases.take(new, "new", 60) == 2
    assert not await leases.silent(old, 2)
    await leases.resign(new, "new", 2)
    assert await leases.silent(old, 2)
    assert await leases.take(ledger.conn, "without", 60, bell=False) == 3
    assert await leases.silent(old, 3)
