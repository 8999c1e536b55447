"""Faults of the network: partitions, whole and on one side, slow lines, resets, and answers that are lost for sure."""

import asyncio
from collections.abc import AsyncGenerator

from windlass.chaos.net import API, POSTGRES, REDIS, change
from windlass.chaos.proxy import DROP, HOLD, PASS, Weather
from windlass.chaos.site import Hit, NoTarget, Site

_SLOW = Weather(delay_s=0.2)
#: Parts of the statements that accept jobs and that move tasks.
_ACCEPTS, _MOVES = "INTO jobs (id", "tasks t SET"
_LOSE_WITHIN_S = 5.0


async def leader_cut_off(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """The leader does not reach PostgreSQL any more; Redis it does."""
    wires = site.cluster.net.wires((await site.leader(hit)).name, POSTGRES)
    hit.strike()
    await change(wires, HOLD)
    yield
    await hit.hold(5, 10)
    await change(wires, PASS)
    hit.heal()


async def leader_deaf(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """The leader does not reach Redis any more; PostgreSQL it does."""
    wires = site.cluster.net.wires((await site.leader(hit)).name, REDIS)
    hit.strike()
    await change(wires, HOLD)
    yield
    await hit.hold(3, 10)
    await change(wires, PASS)
    hit.heal()


async def leader_slow(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Everything the leader sends or hears is 200 ms late."""
    wires = site.cluster.net.wires((await site.leader(hit)).name)
    hit.strike()
    await change(wires, _SLOW)
    yield
    await hit.hold(3, 10)
    await change(wires, PASS)
    hit.heal()


async def worker_hiccup(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """A worker reaches nobody for less than its lease."""
    wires = site.cluster.net.wires(site.member(hit, "worker").name)
    hit.strike()
    await change(wires, HOLD)
    yield
    await hit.hold(2, 5)
    await change(wires, PASS)
    hit.heal()


async def worker_cut_off(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """A worker reaches nobody for longer than its lease, and its connections are dead afterwards."""
    wires = site.cluster.net.wires(site.member(hit, "worker").name)
    await site.note_victims(hit)
    hit.strike()
    await change(wires, DROP)
    yield
    await hit.hold(21, 30)
    await change(wires, PASS)
    for wire in wires:
        wire.reset()
    hit.heal()


async def worker_deaf(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """A worker does not reach Redis, but the API: it goes on over HTTP."""
    wires = site.cluster.net.wires(site.member(hit, "worker").name, REDIS)
    hit.strike()
    await change(wires, HOLD)
    yield
    await hit.hold(3, 25)
    await change(wires, PASS)
    hit.heal()


async def worker_no_api(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """A worker does not reach the API, but Redis: output waits."""
    wires = site.cluster.net.wires(site.member(hit, "worker").name, API)
    hit.strike()
    await change(wires, DROP)
    yield
    await hit.hold(3, 15)
    await change(wires, PASS)
    for wire in wires:
        wire.reset()
    hit.heal()


async def resets(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Every connection of one member is reset, in the middle of whatever it says."""
    member = site.member(hit, hit.dice.choice(("api", "scheduler", "worker")))
    hit.strike()
    for wire in site.cluster.net.wires(member.name):
        wire.reset()
    hit.heal()
    yield


async def accept_unknown(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """The ledger accepts a job, and the API never hears of it: its connection is cut at the commit's answer."""
    member = site.member(hit, "api")
    await _lose(site, hit, member.name, _ACCEPTS)
    yield


async def move_unknown(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """The ledger commits what the leader decided, and the leader never hears of it."""
    member = await site.leader(hit)
    await _lose(site, hit, member.name, _MOVES)
    yield


async def _lose(site: Site, hit: Hit, member: str, text: str) -> None:
    (wire,) = site.cluster.net.wires(member, POSTGRES)
    lost = wire.lose_answer(text)
    try:
        async with asyncio.timeout(_LOSE_WITHIN_S):
            await lost.wait()
    except TimeoutError:
        wire.loss = None
        raise NoTarget from None
    hit.strike()
    hit.heal()
