"""Where faults happen: the cluster with its load and its watch, who is being hurt now, and how recovery is measured."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from windlass.chaos.cluster import Cluster, Member
from windlass.chaos.load import PROBE, Load, began, uptime
from windlass.chaos.watch import Watch
from windlass.embedded.child import last_words
from windlass.errors import Unavailable
from windlass.store import inspection

#: A cluster that is not back by then, with nobody's help, has not recovered.
RECOVER_S = 90.0
#: A job that starts this soon after it was asked for was dispatched at full speed.
FULL_SPEED_S = {"process": 0.7, "docker": 2.0}
#: An engine takes some containers a second, no more.
_PROBE_EVERY_S = {"process": 0.1, "docker": 0.7}
_PROBES_AT_ONCE = 20
_GUARD_S = 0.25


class NoTarget(Exception):
    """Nobody is there now whom this fault could hit."""


@dataclass
class Hit:
    """One fault that was injected. Moments are seconds since boot, `term` is who led before it."""

    number: int
    fault: str
    component: str
    dice: random.Random
    targets: tuple[str, ...] = ()
    injected_at: float = 0.0
    healed_at: float | None = None
    #: counted from the injection (`at_once`) or from its end
    recovered_s: float | None = None
    at_once: bool = False
    #: no other fault was there between injection and recovery
    alone: bool = True
    term: int = 0
    #: attempts recorded as alive on the node it hit
    victims: list[str] = field(default_factory=list[str])

    def strike(self) -> None:
        """It happens now."""
        self.injected_at = uptime()

    def heal(self) -> None:
        """It ends now."""
        self.healed_at = uptime()

    @property
    def back_at(self) -> float | None:
        """When the cluster was back; None: never."""
        since = self.injected_at if self.at_once else self.healed_at or self.injected_at
        return None if self.recovered_s is None else since + self.recovered_s

    async def hold(self, least_s: float, most_s: float) -> None:
        """Let it last for a random time."""
        await asyncio.sleep(self.dice.uniform(least_s, most_s))


@dataclass
class Site:
    """What a fault may touch."""

    cluster: Cluster
    load: Load
    watch: Watch
    #: names of members and servers that a fault has hold of
    busy: set[str] = field(default_factory=set[str])
    #: names of members that are never killed, so that what they do over hours can be seen
    spared: frozenset[str] = frozenset()
    #: members that ended though nobody made them
    fallen: list[str] = field(default_factory=list[str])
    _probing: int = 0

    async def guard(self) -> None:
        """Bring back members that end by themselves, as a supervisor would, and remember it; until cancelled."""
        while True:
            for member in self.cluster.members.values():
                if not member.running and member.name not in self.busy:
                    self.fallen.append(f"{member.name} ended by itself: {last_words(member.log, 3)}")
                    member.start()
            await asyncio.sleep(_GUARD_S)

    def claim(self, hit: Hit, *names: str) -> None:
        """Take hold of these for a fault. Raises NoTarget when another one has them."""
        if self.busy & set(names):
            raise NoTarget
        self.busy |= set(names)
        hit.targets = names

    def member(self, hit: Hit, role: str) -> Member:
        """Some member of this role that nothing happens to yet, taken hold of. Raises NoTarget."""
        free = [one for one in self.cluster.of(role) if self._free(one)]
        if not free:
            raise NoTarget
        chosen = hit.dice.choice(free)
        self.claim(hit, chosen.name)
        return chosen

    async def leader(self, hit: Hit) -> Member:
        """The scheduler that leads, taken hold of. Raises NoTarget."""
        found = await self._leads()
        for member in self.cluster.of("scheduler"):
            if found is not None and member.pid == found[1] and self._free(member):
                hit.term = found[0]
                self.claim(hit, member.name)
                return member
        raise NoTarget

    async def standby(self, hit: Hit) -> Member:
        """A scheduler that does not lead, taken hold of. Raises NoTarget."""
        found = await self._leads()
        free = [one for one in self.cluster.of("scheduler") if self._free(one) and found and one.pid != found[1]]
        if not free:
            raise NoTarget
        chosen = hit.dice.choice(free)
        self.claim(hit, chosen.name)
        return chosen

    async def note_victims(self, hit: Hit) -> None:
        """Remember what is alive on the node about to be hit."""
        with suppress(Unavailable):
            hit.victims = await self.watch.ask(lambda conn: inspection.live_on(conn, hit.targets[0]))

    def _free(self, member: Member) -> bool:
        return member.running and not member.frozen and member.name not in self.busy | self.spared

    async def _leads(self) -> tuple[int, int] | None:
        with suppress(Unavailable):
            return await self.watch.ask(inspection.leader)
        return None

    async def probed(self, work: Awaitable[float | None]) -> float | None:
        """The work's result, with small jobs submitted all the while: there is always one to place."""
        prober = asyncio.ensure_future(self._probe())
        try:
            return await work
        finally:
            prober.cancel()

    async def _probe(self) -> None:
        self._probing += 1
        try:
            while True:
                if self._probing == 1 and self.load.asking < _PROBES_AT_ONCE:
                    self.load.want(PROBE)
                await asyncio.sleep(_PROBE_EVERY_S[self.cluster.driver])
        finally:
            self._probing -= 1


Recovery = Callable[[Site, Hit], Awaitable[float | None]]


async def new_term(site: Site, hit: Hit) -> float | None:
    """Seconds from the fault to the first placement committed under a newer term."""
    return await _placed(site, hit.injected_at, hit.term)


async def placed(site: Site, hit: Hit) -> float | None:
    """Seconds from the fault to the next placement."""
    return await _placed(site, hit.injected_at, 0)


async def placed_after_heal(site: Site, hit: Hit) -> float | None:
    """Seconds from the end of the fault to the next placement."""
    return await _placed(site, hit.healed_at or hit.injected_at, 0)


async def _placed(site: Site, since: float, term: int) -> float | None:
    moment = since + time.time() - uptime()
    found = await site.probed(_first(site, moment, term))
    return None if found is None else found - moment


async def _first(site: Site, moment: float, term: int) -> float | None:
    found = await site.watch.placement(moment, term, RECOVER_S)
    return None if found is None else found.at


async def full_speed(site: Site, hit: Hit) -> float | None:
    """Seconds from the end of the fault until a job starts as soon after its submission as ever."""
    since = hit.healed_at or hit.injected_at
    while uptime() - since < RECOVER_S:
        wish = site.load.want(PROBE)
        if await began(site.load.evidence / wish.name, FULL_SPEED_S[site.cluster.driver]):
            return uptime() - since
    return None


async def node_ready(site: Site, hit: Hit) -> float | None:
    """Seconds from the end of the fault until the node is heard and takes work again."""
    since, node = hit.healed_at or hit.injected_at, hit.targets[0]
    moment = since + time.time() - uptime()

    async def ready(conn: inspection.Conn) -> bool:
        return (node, "ready") in [
            (row.name, row.state) for row in await inspection.nodes(conn) if row.heard_at > moment
        ]

    return uptime() - since if await site.watch.until(ready, RECOVER_S) else None


async def elsewhere(site: Site, hit: Hit) -> float | None:
    """Seconds from the loss of a node until what ran there is over or placed again, as the ledger has it; the
    report's figure is taken from the evidence."""

    async def gone(conn: inspection.Conn) -> bool:
        return not set(hit.victims) & set(await inspection.live_on(conn, hit.targets[0]))

    return uptime() - hit.injected_at if await site.watch.until(gone, RECOVER_S) else None
