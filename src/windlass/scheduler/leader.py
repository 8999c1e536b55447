"""The leader's cycle, and the scheduler process around it.

While it leads, one coroutine does, in turn:
1. fetch: reports and bells from the stream, and what came over the exchange, waiting at most until something falls due;
2. hear: nodes that come and live (watch);
3. expire: time limits and ends of backoff;
4. ingest: reports become steps;
5. dispatch: plan and place; one write for what ended and what takes its place;
6. flush: commands, news and receipts, one round trip.
Once a second it also sweeps: outbox rows nobody sent, silent nodes, what operators want of nodes, jobs past their
ttl.
"""

import asyncio
import time
from collections.abc import Sequence

import structlog
from structlog.contextvars import bind_contextvars

from windlass.core.placement.scores import Policy
from windlass.scheduler import dispatch, drain, expire, ingest, prune, ship
from windlass.scheduler.desk import Desk, Rules
from windlass.scheduler.elect import Elector, Terms
from windlass.scheduler.post import Mail, Post
from windlass.scheduler.presence import Presence
from windlass.scheduler.survey import Survey
from windlass.scheduler.watch import Watch
from windlass.settings import Settings
from windlass.store import nodes, shapes, tasks
from windlass.store.db import connect, meet, plan_anew, unavailable
from windlass.stream import wire
from windlass.stream.consume import GroupReader
from windlass.stream.keys import LEADER_GROUP, Keys
from windlass.stream.produce import Producer
from windlass.stream.produce import connect as connect_stream

log = structlog.get_logger("scheduler")

SWEEP_S = 1.0


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """One scheduler process: stand for election until stop is set."""
    plan, ledger = settings.scheduler, settings.database
    await meet(ledger.url, "elector", pooled=ledger.pooled)
    rules = Rules(Policy(plan.placement), plan.reserve_after_s, plan.node_suspect_s, plan.node_lost_s)

    presence = Presence()

    async def lead(term: int) -> None:
        streams = settings.redis.url, Keys(settings.cluster)
        survey = settings.metrics.port > 0
        await reign(ledger.url, *streams, term, rules, presence, pooled=ledger.pooled, survey=survey)

    # Behind a pooler in transaction mode a session-level lock would be some other session's: no bell.
    terms = Terms(plan.lease_ttl_s, plan.lease_renew_s, bell=not ledger.pooled, pooled=ledger.pooled)
    elector = Elector(ledger.url, presence, terms, lead)
    await elector.run(stop)


async def reign(
    database_url: str,
    redis_url: str,
    keys: Keys,
    term: int,
    rules: Rules,
    presence: Presence | None = None,
    *,
    pooled: bool = False,
    survey: bool = False,
) -> None:
    """The leader's duties for one term, until cancelled; with a `survey` beside them. Raises Fenced, Unavailable."""
    bind_contextvars(term=term)
    presence = presence or Presence()
    health = presence.health
    conn = await connect(database_url, "leader", pooled=pooled)
    writing, reading = connect_stream(redis_url), connect_stream(redis_url)
    producer = Producer(writing, keys, health)
    reader = GroupReader(reading, keys.leader, LEADER_GROUP, wire.reports(), health)
    desk = Desk(conn, producer, reader, term, rules, presence)
    looking = Survey(desk.picture, keys, database_url, redis_url, pooled=pooled) if survey else None
    beside = asyncio.create_task(looking.run()) if looking else None
    try:
        with unavailable():
            await _load(desk)
            await _cycle(desk)
    finally:
        if beside is not None:
            beside.cancel()
            await asyncio.wait([beside], timeout=1.0)
        producer.close()
        reader.close()
        await asyncio.gather(conn.close(), writing.aclose(), reading.aclose(), return_exceptions=True)


async def _load(desk: Desk) -> None:
    rows = await nodes.every(desk.conn)
    live, others = await tasks.all_live(desk.conn)
    known = await shapes.every(desk.conn)
    desk.picture.set_clock(await tasks.clock(desk.conn))
    desk.picture.load([row.node for row in rows], live, known, others)
    if others:
        log.warning("attempts_left_alone", attempts={one.attempt_id: one.why for one in others})
    log.info("picture_loaded", nodes=len(rows), live=len(live), shapes=len(known))


async def _cycle(desk: Desk) -> None:
    watch, post, swept = Watch(), Post(desk), 0.0
    while True:
        mail = await post.fetch(watch, _pause(desk, swept))
        await _hear(desk, watch, mail)
        if desk.deaf:
            desk.line.clear()  # no bell may come: look
        if desk.picture.now() >= desk.picture.next_due:
            await expire.run_once(desk)
        if time.monotonic() - swept >= SWEEP_S:
            swept = time.monotonic()
            await _sweep(desk, watch)
        reports = [m for m in mail.all if isinstance(m, ingest.AttemptReport)]
        ends = await ingest.moves(desk, ingest.facts(desk, reports)) if reports else None
        while await dispatch.run_once(desk, ends):
            await desk.flush()
            ends = None
        await desk.flush()
        await post.done()


def _pause(desk: Desk, swept: float) -> float:
    """Seconds until something falls due."""
    return min(swept + SWEEP_S - time.monotonic(), desk.picture.next_due - desk.picture.now(), SWEEP_S)


async def _hear(desk: Desk, watch: Watch, mail: Mail) -> None:
    nodes_say = (wire.Hello, wire.Beat, wire.Bye)
    await watch.hear(desk, [m for m in mail.streamed if isinstance(m, nodes_say)], current=mail.current)
    await watch.hear(desk, [m for m in mail.letters if isinstance(m, nodes_say)])
    for node_id in {m.node_id for m in mail.streamed if isinstance(m, wire.Beat)}:
        node = desk.picture.nodes.get(node_id)
        desk.commands[node_id].append(wire.Heard(draining=node is not None and node.leaving))
    await _bells(desk, [m for m in mail.all if isinstance(m, wire.Bell)])


async def _bells(desk: Desk, bells: Sequence[wire.Bell]) -> None:
    for bell in bells:
        if bell.what == "jobs":
            desk.line.arrived(bell.shapes, bell.priority)
    if any(bell.what == "outbox" for bell in bells):
        await ship.run_once(desk, 0.0)
    if any(bell.what == "nodes" for bell in bells):
        await drain.run_once(desk)


async def _sweep(desk: Desk, watch: Watch) -> None:
    """What no bell announces, or whose bell was lost."""
    await ship.run_once(desk, ship.STUCK_S)
    await watch.tick(desk)
    await drain.run_once(desk)
    await prune.run_once(desk)
    ahead = await tasks.next_due(desk.conn, desk.picture.now())
    if ahead is not None:
        desk.picture.next_due = min(desk.picture.next_due, desk.picture.now() + max(ahead, 0.0))
    desk.line.clear()
    await desk.clear_sent()
    await plan_anew(desk.conn)
