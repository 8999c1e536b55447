"""Survey: what the leader's page for Prometheus tells of the whole cluster.

Nodes and live attempts come from the picture when somebody asks. What waits is not in it: that is counted beside the
cycle, on connections of the survey's own, and a deep line less often, so that counting takes at most COUNT_SHARE of
the time. Where no page is served there is no survey.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis

from windlass.core.placement.demand import Demand, scale, worker_size
from windlass.core.placement.snapshot import NOTHING, Node
from windlass.core.states import Driver, NodeState
from windlass.errors import Unavailable
from windlass.metrics import fleet
from windlass.metrics.catalogue import Figure
from windlass.scheduler.picture import Picture
from windlass.store import backlog
from windlass.store.db import Conn, connect
from windlass.stream.keys import Keys
from windlass.stream.lag import Lag, lag
from windlass.stream.outage import StreamDown
from windlass.stream.produce import connect as connect_stream

log = structlog.get_logger("scheduler")

#: Seconds between two looks; and the share of the time that counting may take.
LOOK_S = 2.0
COUNT_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Counted:
    """What the ledger said, and when (monotonic)."""

    demand: dict[int, Demand]
    oldest_s: float
    outbox: int
    inbox: int
    at: float
    took_s: float


class Survey:
    """One per leadership; `run` looks until cancelled. Outages leave what was known, ever older."""

    def __init__(
        self, picture: Picture, keys: Keys, database_url: str, redis_url: str, *, pooled: bool = False
    ) -> None:
        self._picture, self._keys = picture, keys
        self._url, self._pooled = database_url, pooled
        self._redis: Redis = connect_stream(redis_url)
        self._conn: Conn | None = None
        self._counted: Counted | None = None
        self._lags: tuple[Lag, Lag] | None = None

    async def run(self) -> None:
        """Keep the figures, until cancelled."""
        fleet.FIGURES.source = self.figures
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            if fleet.FIGURES.source == self.figures:
                fleet.FIGURES.source = None
            await asyncio.gather(self._close(), self._redis.aclose(), return_exceptions=True)

    async def look(self) -> None:
        """Ask the ledger, unless that has cost too much, and the streams."""
        try:
            last = self._counted
            if last is None or time.monotonic() - last.at >= last.took_s / COUNT_SHARE:
                self._counted = await self._count()
        except Unavailable:
            await self._close()
        try:
            self._lags = await lag(self._redis, self._keys, list(self._picture.nodes))
        except StreamDown:
            self._lags = None
        except Exception:
            log.exception("survey_failed")

    async def _count(self) -> Counted:
        if self._conn is None or self._conn.closed:
            self._conn = await connect(self._url, "survey", pooled=self._pooled)
        began = time.monotonic()
        demand = await backlog.count(self._conn)
        oldest_s = await backlog.oldest_s(self._conn)
        outbox, inbox = await backlog.under_way(self._conn)
        now = time.monotonic()
        return Counted(demand, oldest_s, outbox, inbox, now, now - began)

    async def _close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    def figures(self) -> Iterator[Figure]:
        """All that is known now. Called from another thread: it takes copies, and changes nothing."""
        nodes = list(self._picture.nodes.values())
        yield from self._of_nodes(nodes)
        states = Counter(one.attempt.state.value for one in list(self._picture.live.values()) if one.attempt)
        yield from ((fleet.LIVE, (state,), states[state]) for state in fleet.LIVE_STATES)
        if self._lags is not None:
            for name, one in zip(fleet.STREAMS, self._lags, strict=True):
                yield fleet.STREAM_ENTRIES, (name,), one.entries
                yield fleet.STREAM_LAG, (name,), one.oldest_s
        if self._counted is not None:
            yield from _of_the_line(self._counted, nodes)

    def _of_nodes(self, nodes: Iterable[Node]) -> Iterator[Figure]:
        counts = Counter(map(_state, nodes))
        yield from ((fleet.NODES, (state,), counts[state]) for state in fleet.NODE_STATES)
        now, picture = time.monotonic(), self._picture
        # A machine that was set up anew has its old name and a new id: the one that lives is told of.
        for node in {n.name: n for n in sorted(nodes, key=lambda n: n.state is not NodeState.LOST)}.values():
            used, name = picture.used.get(node.id, NOTHING), (node.name,)
            yield fleet.NODE_UP, name, node.state is NodeState.READY
            yield fleet.NODE_SILENCE, name, now - picture.heard.get(node.id, now)
            yield fleet.NODE_ATTEMPTS, name, len(picture.by_node.get(node.id, ()))
            yield fleet.NODE_CPU, name, node.capacity.millis / 1000
            yield fleet.NODE_CPU_USED, name, used.millis / 1000
            yield fleet.NODE_MEMORY, name, node.capacity.memory
            yield fleet.NODE_MEMORY_USED, name, used.memory


def _of_the_line(counted: Counted, nodes: list[Node]) -> Iterator[Figure]:
    waiting = Counter[str]()
    for one in counted.demand.values():
        waiting[one.shape.driver] += one.waiting
    yield from ((fleet.QUEUE_DEPTH, (driver.value,), waiting[driver]) for driver in Driver)
    yield fleet.OLDEST_WAIT, (), counted.oldest_s
    yield fleet.COUNT_AGE, (), time.monotonic() - counted.at
    yield fleet.NEEDED_WORKERS, (), scale(counted.demand.values(), worker_size(nodes)).workers
    yield fleet.OUTBOX, (), counted.outbox
    yield fleet.INBOX, (), counted.inbox


def _state(node: Node) -> str:
    if node.state is not NodeState.READY:
        return node.state.value
    return next((what for what in ("leaving", "draining", "cordoned") if getattr(node, what)), NodeState.READY.value)
