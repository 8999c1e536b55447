"""The leader's cycle, and the scheduler process around it.

While it leads, one coroutine does, in turn:
1. read: reports and bells from the stream, waiting at most until something falls due;
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

from windlass.core.placement.scores import Policy
from windlass.scheduler import dispatch, drain, expire, ingest, prune, ship
from windlass.scheduler.desk import Desk, Rules
from windlass.scheduler.elect import Elector, Terms
from windlass.scheduler.presence import Presence
from windlass.scheduler.watch import Watch
from windlass.settings import Settings
from windlass.store import nodes, shapes, tasks
from windlass.store.db import connect, meet, plan_anew, unavailable
from windlass.stream import wire
from windlass.stream.consume import GroupReader
from windlass.stream.keys import LEADER_GROUP, Keys
from windlass.stream.produce import Producer, StreamDown
from windlass.stream.produce import connect as connect_stream

log = structlog.get_logger("scheduler")

SWEEP_S = 1.0
#: A row this old in the outbox was forgotten by whoever wrote it.
OUTBOX_AGE_S = 2.0


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """One scheduler process: stand for election until stop is set."""
    plan, ledger = settings.scheduler, settings.database
    await meet(ledger.url, "elector", pooled=ledger.pooled)
    rules = Rules(Policy(plan.placement), plan.reserve_after_s, plan.node_suspect_s, plan.node_lost_s)

    presence = Presence()

    async def lead(term: int) -> None:
        streams = settings.redis.url, Keys(settings.cluster)
        await reign(ledger.url, *streams, term, rules, presence, pooled=ledger.pooled)

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
) -> None:
    """The leader's duties for one term, until cancelled. Raises Fenced, Unavailable."""
    conn = await connect(database_url, "leader", pooled=pooled)
    writing, reading = connect_stream(redis_url), connect_stream(redis_url)
    try:
        reader = GroupReader(reading, keys.leader, LEADER_GROUP, wire.reports())
        desk = Desk(conn, Producer(writing, keys), reader, term, rules, presence or Presence())
        with unavailable():
            await _load(desk)
            await _cycle(desk)
    finally:
        await asyncio.gather(conn.close(), writing.aclose(), reading.aclose(), return_exceptions=True)


async def _load(desk: Desk) -> None:
    known = await shapes.every(desk.conn)
    rows = await nodes.every(desk.conn)
    live = await tasks.all_live(desk.conn)
    desk.picture.set_clock(await tasks.clock(desk.conn))
    desk.picture.load([row.node for row in rows], live, known)
    log.info("picture_loaded", term=desk.term, nodes=len(rows), live=len(live), shapes=len(known))


async def _cycle(desk: Desk) -> None:
    watch, swept = Watch(), 0.0
    while True:
        messages = await _read(desk, watch, swept)
        await watch.hear(desk, [m for m in messages if isinstance(m, wire.Hello | wire.Beat | wire.Bye)])
        await _bells(desk, [m for m in messages if isinstance(m, wire.Bell)])
        if desk.picture.now() >= desk.picture.next_due:
            await expire.run_once(desk)
        if time.monotonic() - swept >= SWEEP_S:
            swept = time.monotonic()
            await _sweep(desk, watch)
        reports = [m for m in messages if isinstance(m, ingest.AttemptReport)]
        ends = await ingest.moves(desk, ingest.facts(desk, reports)) if reports else None
        while await dispatch.run_once(desk, ends):
            await desk.flush()
            ends = None
        await desk.flush()


async def _read(desk: Desk, watch: Watch, swept: float) -> Sequence[wire.Report]:
    now = time.monotonic()
    pause = min(swept + SWEEP_S - now, desk.picture.next_due - desk.picture.now(), SWEEP_S)
    try:
        messages = await desk.reader.read(max(pause, 0.001))
        desk.presence.redis(degraded=False)
        return messages
    except StreamDown as error:
        watch.deaf()
        desk.presence.redis(degraded=True)
        log.warning("stream_read_failed", error=str(error))
        await asyncio.sleep(max(min(pause, 0.5), 0.05))
        return []


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
    await ship.run_once(desk, OUTBOX_AGE_S)
    await watch.tick(desk)
    await drain.run_once(desk)
    await prune.run_once(desk)
    ahead = await tasks.next_due(desk.conn)
    if ahead is not None:
        desk.picture.next_due = min(desk.picture.next_due, desk.picture.now() + max(ahead, 0.0))
    desk.line.clear()
    await desk.clear_sent()
    await plan_anew(desk.conn)
