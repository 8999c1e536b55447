"""Elect: one leads, and another soon after, however the first one ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import pytest

from tests.builders import Ledger
from tests.support import HANG_S, wait_until
from windlass.core.lease import SAFETY_MARGIN_S
from windlass.errors import Fenced
from windlass.metrics import scheduler as metrics
from windlass.scheduler.elect import Elector, Terms
from windlass.scheduler.presence import Presence
from windlass.store import leases
from windlass.store.db import connect

#: A lease that lapses in no test by itself.
LONG = Terms(ttl_s=3600, renew_s=0.1, standby_s=0.05)


@dataclass
class Candidate:
    """One elector in this process, and the terms its duties ran for."""

    elector: Elector
    terms: list[int]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    leading: bool = False

    async def resign(self) -> None:
        self.stop.set()
        assert self.task is not None
        await self.task


Stand = Callable[..., Candidate]


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    conn = await connect(database_url, "test")
    yield Ledger(conn)
    await conn.close()


@pytest.fixture
async def stand(database_url: str) -> AsyncIterator[Stand]:
    """Lets a candidate run for office until the test ends; `fails` is what its duties raise at once."""
    async with AsyncExitStack() as stack:

        def run(name: str, terms: Terms = LONG, duties: Callable[[int], Awaitable[None]] | None = None) -> Candidate:
            async def lead(term: int) -> None:
                candidate.terms.append(term)
                candidate.leading = True
                try:
                    await (duties(term) if duties else asyncio.Event().wait())
                finally:
                    candidate.leading = False

            candidate = Candidate(Elector(database_url, Presence(name), terms, lead), [])
            candidate.task = asyncio.create_task(candidate.elector.run(candidate.stop))
            stack.push_async_callback(candidate.resign)
            return candidate

        yield run


async def leads(candidate: Candidate) -> None:
    await wait_until(lambda: candidate.leading, "a leader")


async def session_of(ledger: Ledger, holder: Candidate) -> int:
    conn = holder.elector._conn  # pyright: ignore
    assert conn is not None
    return conn.info.backend_pid


async def test_one_leads_and_the_other_stands_by(stand: Stand, ledger: Ledger) -> None:
    first = stand("a")
    await leads(first)
    second = stand("b")
    since = await ledger.one("SELECT expires_at FROM leases")
    await wait_until(lambda: later(ledger, since), "a renewal")
    assert (first.terms, second.terms) == ([1], [])


async def later(ledger: Ledger, moment: object) -> bool:
    return await ledger.one("SELECT expires_at FROM leases") > moment


async def test_a_planned_handover_is_quick(stand: Stand) -> None:
    first = stand("a")
    await leads(first)
    second = stand("b")
    await first.resign()
    await leads(second)
    assert (first.terms, second.terms) == ([1], [2])


async def test_a_dead_leaders_session_rings_the_bell(stand: Stand, ledger: Ledger, database_url: str) -> None:
    """Long before its lease would lapse."""
    dead = await connect(database_url, "elector")
    assert await leases.take(dead, "dead", 3600) == 1
    heir = stand("heir")
    await wait_until(lambda: heir.elector._conn, "the heir's first look")  # pyright: ignore
    assert heir.terms == []
    await ledger.one("SELECT pg_terminate_backend(%s)", dead.info.backend_pid)
    await leads(heir)
    assert heir.terms == [2]
    await dead.close()


async def test_without_a_bell_the_lapse_decides(stand: Stand, ledger: Ledger) -> None:
    began = time.monotonic()
    await leases.take(ledger.conn, "silent", 1.0)
    heir = stand("heir", replace(LONG, bell=False))
    await leads(heir)
    assert time.monotonic() - began > 0.9
    assert heir.terms == [2]


async def test_a_leader_cut_off_from_the_ledger_stops_by_itself(stand: Stand, ledger: Ledger) -> None:
    """Its session ends and it can't renew: it must not lead on while another does."""
    first = stand("a")
    await leads(first)
    await ledger.one("SELECT pg_terminate_backend(%s)", await session_of(ledger, first))
    second = stand("b")
    await wait_until(lambda: first.terms[1:] or second.terms, "the next term")
    await wait_until(lambda: first.leading + second.leading == 1, "one leader")
    assert (first.terms[1:] or second.terms)[0] == 2


async def test_a_leader_deposed_ends_its_duties(stand: Stand, ledger: Ledger) -> None:
    first = stand("a")
    await leads(first)
    async with ledger.conn.transaction():
        await leases.expire(ledger.conn, 1)
        assert await leases.take(ledger.conn, "usurper", 60) == 2
    await wait_until(lambda: not first.leading, "the end of the duties")
    found = await leases.leader(ledger.conn)
    assert found is not None
    assert (found.holder, found.term, first.terms) == ("usurper", 2, [1])


async def test_a_leader_that_hung_does_not_take_the_lease_back(stand: Stand, ledger: Ledger) -> None:
    """Its session lives on, bell and all, while its lease lapses and another, quite alive, takes over."""
    first = stand("hung", Terms(ttl_s=4.0, renew_s=0.1, standby_s=0.05))
    await leads(first)
    stuck = asyncio.Event()
    renewed = first.elector._renewed  # pyright: ignore

    async def hang(term: int, within_s: float) -> bool:
        await stuck.wait()
        return await renewed(term, HANG_S)

    first.elector._renewed = hang  # pyright: ignore
    second = stand("alive")
    await leads(second)
    first.elector._renewed = renewed  # pyright: ignore
    stuck.set()
    await wait_until(lambda: not first.leading, "the end of the old duties")
    until = time.monotonic() + 1.0
    await wait_until(lambda: time.monotonic() > until or len(first.terms) > 1 or not second.leading, "a second's peace")
    assert (first.terms, second.terms) == ([1], [2])


async def test_duties_that_fail_give_the_lease_away(stand: Stand) -> None:
    async def fenced(term: int) -> None:
        raise Fenced(f"term {term} is over")

    first = stand("a", LONG, fenced)
    await wait_until(lambda: len(first.terms) > 1, "another try")
    assert first.terms[:2] == [1, 2]
    assert first.elector.term in (None, *first.terms)


async def test_a_slow_renewal_that_succeeds_does_not_extend_the_trust(stand: Stand, ledger: Ledger) -> None:
    """Trust counts from before the renewal was sent: its answer's late coming gives the leader no more time."""
    first = stand("slow")
    await leads(first)
    renewed = first.elector._renewed  # pyright: ignore
    spans: list[float] = []

    async def slow(term: int, within_s: float) -> bool:
        spans.append(within_s)
        if len(spans) > 1:
            return False
        kept = await renewed(term, within_s)
        await asyncio.sleep(0.6)
        return kept

    first.elector._renewed = slow  # pyright: ignore
    await wait_until(lambda: len(spans) > 1, "the next renewal")
    assert spans[1] <= LONG.ttl_s - SAFETY_MARGIN_S - 0.6


async def test_a_lease_from_the_future_is_over_when_nobody_renews_it(stand: Stand, ledger: Ledger) -> None:
    """The database's clock was set back by an hour and the leader hangs: its session lives, its lease seems to last."""
    assert await leases.take(ledger.conn, "hung", 3600) == 1
    began = time.monotonic()
    heir = stand("heir", Terms(ttl_s=0.5, renew_s=0.1, standby_s=0.05))
    await wait_until(lambda: heir.terms, "a leader")
    assert time.monotonic() - began > 1.4
    assert heir.terms[0] == 2


async def test_a_lease_from_the_future_that_is_renewed_stands(stand: Stand, ledger: Ledger) -> None:
    assert await leases.take(ledger.conn, "alive", 7200) == 1
    heir = stand("heir")
    elector = heir.elector
    await wait_until(lambda: elector._seen, "the first look")  # pyright: ignore
    for _ in range(3):  # for longer than a standby waits for a renewal
        elector._seen_since -= 0.5 * LONG.ttl_s  # pyright: ignore
        before = elector._seen  # pyright: ignore
        assert await leases.renew(ledger.conn, "alive", 1, 7200)
        await wait_until(lambda before=before: elector._seen != before, "a look after it")  # pyright: ignore
    assert heir.terms == []


async def test_a_leader_that_is_fenced_is_counted_once(stand: Stand) -> None:
    before = metrics.FENCED_WRITES._value.get()  # pyright: ignore
    told = asyncio.Event()

    async def fenced(term: int) -> None:
        if not told.is_set():
            told.set()
            raise Fenced(f"term {term} is over")
        assert metrics.TERM._value.get() == term  # pyright: ignore
        await asyncio.Event().wait()

    first = stand("a", LONG, fenced)
    await wait_until(lambda: first.terms == [1, 2] and first.leading, "the next term")
    assert metrics.FENCED_WRITES._value.get() == before + 1  # pyright: ignore
    await first.resign()
    assert metrics.TERM._value.get() == 0  # pyright: ignore


async def test_schedulers_say_that_they_live_and_take_their_row_when_they_leave(stand: Stand, ledger: Ledger) -> None:
    first = stand("a")
    await leads(first)
    second = stand("b")
    count = "SELECT count(*) FROM schedulers"
    await wait_until(lambda: ledger.one(f"{count} HAVING count(*) = 2"), "two rows")
    said = await ledger.one("SELECT min(seen_at) FROM schedulers")
    await wait_until(lambda: ledger.one("SELECT 1 FROM schedulers HAVING min(seen_at) > %s", said), "news of both")
    await second.resign()
    await first.resign()
    assert await ledger.one(count) == 0
