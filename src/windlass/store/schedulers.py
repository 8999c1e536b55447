"""The schedulers that run, and what of the cluster is seen at one glance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from windlass.core.states import Driver, NodeState, node_state
from windlass.store.db import Conn, unavailable

#: A scheduler says that it lives, and who has not said so for an hour is forgotten.
SEEN = """
WITH forgotten AS (DELETE FROM schedulers WHERE seen_at < now() - interval '1 hour' AND id <> %(id)s)
INSERT INTO schedulers AS s (id, host, pid, version, drivers, redis_degraded_since)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(drivers)s, CASE WHEN %(degraded)s::boolean THEN now() END)
ON CONFLICT (id) DO UPDATE SET seen_at = now(),
    redis_degraded_since = CASE WHEN %(degraded)s::boolean THEN coalesce(s.redis_degraded_since, now()) END
"""
GONE = "DELETE FROM schedulers WHERE id = %(id)s"
#: Who lives, the leader first. One that fell silent is no standby, even before it is forgotten.
LIVING = """
SELECT s.id, s.host, s.pid, s.version, s.started_at, s.seen_at, s.redis_degraded_since, l.term, l.since
FROM schedulers s LEFT JOIN leases l ON l.name = 'leader' AND l.holder = s.id AND l.expires_at > now()
WHERE s.seen_at > now() - interval '5 seconds' OR l.term IS NOT NULL
ORDER BY l.term NULLS LAST, s.started_at, s.id
"""
#: What those know that led or stood by a moment ago: one that is only silent may come back.
KNOWN = "SELECT host, version, drivers FROM schedulers WHERE seen_at > now() - interval '1 minute' ORDER BY started_at"
NODES = "SELECT state, count(*) FROM nodes GROUP BY state"
#: Counts no further than AT_MOST of each, so that a deep queue costs no more than a shallow one.
WORK = """
SELECT (SELECT count(*) FROM (SELECT FROM tasks WHERE state IN ('queued', 'backoff') AND finished_at IS NULL
            LIMIT %(most)s) q),
    (SELECT count(*) FROM (SELECT FROM attempts WHERE state IN ('placed', 'preparing', 'running', 'stopping')
            LIMIT %(most)s) r)
"""
AT_MOST = 10_000
#: The drivers of version 0.2, whose schedulers do not say what they know.
UNSAID = frozenset({"docker", "process", "mock"})


@dataclass(frozen=True, slots=True)
class Scheduler:
    """One scheduler; `term` and `since` only of the one that leads."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    redis_degraded_since: datetime | None
    term: int | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Reader:
    """A scheduler, and which drivers in a spec it can read."""

    host: str
    version: str
    drivers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Overview:
    """The cluster at one glance. Jobs are counted up to AT_MOST."""

    leader: Scheduler | None
    standbys: Sequence[Scheduler]
    nodes: Mapping[NodeState, int]
    queued: int
    running: int


async def seen(conn: Conn, scheduler_id: str, host: str, pid: int, version: str, *, redis_degraded: bool) -> None:
    """Renew a scheduler's row. Raises Unavailable."""
    drivers = [driver.value for driver in Driver]
    values = {"id": scheduler_id, "host": host, "pid": pid, "version": version, "degraded": redis_degraded}
    values |= {"drivers": drivers}
    with unavailable():
        await conn.execute(SEEN, values)


async def gone(conn: Conn, scheduler_id: str) -> None:
    """A scheduler that ends takes its row with it. Raises Unavailable."""
    with unavailable():
        await conn.execute(GONE, {"id": scheduler_id})


async def readers(conn: Conn) -> list[Reader]:
    """What each scheduler that may lead can read."""
    rows = await (await conn.execute(KNOWN)).fetchall()
    return [Reader(host, version, UNSAID if said is None else frozenset(said)) for host, version, said in rows]


async def overview(conn: Conn) -> Overview:
    """Who leads, who stands by, and how much there is of what."""
    async with conn.pipeline():
        living = await conn.execute(LIVING)
        nodes = await conn.execute(NODES)
        work = await conn.execute(WORK, {"most": AT_MOST})
    found = [Scheduler(*row) for row in await living.fetchall()]
    states = dict.fromkeys(NodeState, 0)
    for state, count in await nodes.fetchall():
        states[node_state(state)] += count
    counted = await work.fetchone()
    assert counted is not None
    leader = next((one for one in found if one.term is not None), None)
    return Overview(leader, [one for one in found if one.term is None], states, *counted)
