"""The twins are honest: the simulated ledger and PostgreSQL, told the same, answer the same; and so do the streams."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import Any

import msgspec
import pytest
from psycopg.types.json import Jsonb

from tests.builders import a_job, a_spec
from tests.simulation.ledger import Ledger, Session
from tests.simulation.process import EPOCH
from tests.simulation.twins import TWINS, constants, twin_of
from windlass.core.attempt import step
from windlass.core.events import CancelRequested, Exited, NodeLost, Placed, Started
from windlass.core.ids import ATTEMPT, AttemptId, NodeId, task_of
from windlass.core.placement.snapshot import shape_of
from windlass.core.states import Cause
from windlass.core.task import Step
from windlass.errors import Fenced
from windlass.mint import new_id
from windlass.store import apply as door
from windlass.store import inbox, jobs, late, leases, logs, nodes, outbox, park, schedulers, shapes, tasks
from windlass.store.db import Conn, connect

#: What only the API's readers, auditors, migrations and the doctor say: no simulated role sends it.
FOR_READERS = (
    "inspection.", "audit.", "backlog.", "tokens.", "events.", "migrate.", "jobs.", "logs.READ", "schedulers.",
    "nodes.STRANDED", "checkup.", "isolation.",
)  # fmt: skip
#: Pieces of statements.
PIECES = {"apply._MOVE", "fence.FENCE", "tasks.TASK_COLUMNS", "tasks.ATTEMPT_COLUMNS", "tasks._WITH_LATEST"}


class Twin:
    """A connection to the simulated ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._session = ledger, Session("api", None)
        self.asked: set[str] = set()

    async def execute(self, statement: str, values: Any = None, **_: Any) -> "Twin":
        name, function = twin_of(statement)
        self.asked.add(name)
        self._rows = function(self._ledger, self._session, values or {})
        return self

    async def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    async def fetchall(self) -> Any:
        return self._rows


class Pair:
    """Both, asked the same."""

    def __init__(self, real: Conn, twin: Twin) -> None:
        self.real, self.twin = real, twin

    async def ask(self, question: Any) -> Any:
        """The one answer of both."""
        one, other = await question(self.real), await question(self.twin)
        for left, right in zip(*map(_parts, (one, other)), strict=True):
            assert left == right
        return one


def _parts(answer: Any) -> list[str]:
    """Piece by piece, so that a difference is seen."""
    plain = _plain(answer)
    return [repr(one) for one in (plain.items() if isinstance(plain, dict) else [plain])]


def _plain(value: Any) -> Any:
    """As it can be compared: no moments, for the two clocks differ; sets and lists of rows in order."""
    if isinstance(value, datetime):
        return "moment"
    if isinstance(value, float):
        return "seconds"
    if isinstance(value, frozenset | set):
        return sorted(map(repr, map(_plain, value)))
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if hasattr(value, "__dataclass_fields__"):
        return [(name, _plain(getattr(value, name))) for name in value.__dataclass_fields__]
    return value


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[Pair]:
    async with await connect(database_url, "twin") as real:
        yield Pair(real, Twin(Ledger(lambda: time.time() - EPOCH)))


def test_every_statement_of_the_duties_has_a_twin() -> None:
    known = {name for name, _ in TWINS.values()}
    missing = {name for name in constants().values() if name not in known and not name.startswith(FOR_READERS)}
    assert missing <= PIECES, "write their twins in tests/simulation/twins.py"


async def _submitted(pair: Pair, draw: Random) -> list[Any]:
    specs = [
        a_spec(cpu=draw.choice((0.5, 1.0)), priority=draw.choice((0, 3)), queue_timeout=draw.choice((None, 50.0)))
        for _ in range(8)
    ]
    for cpu in (0.5, 1.0):  # one at a time, so that both give them the same numbers
        await pair.ask(lambda conn, cpu=cpu: shapes.Shapes().intern(conn, {shape_of(a_spec(cpu=cpu))}))
    new = [a_job(spec, key=f"k{i}", fingerprint="f") for i, spec in enumerate(specs)]
    accepted, _ = await pair.ask(lambda conn: jobs.submit(conn, new, shapes.Shapes()))
    assert len(accepted) == len(new)
    again = [a_job(spec, key=f"k{i}", fingerprint="f") for i, spec in enumerate(specs[:2])]
    await pair.ask(lambda conn: jobs.submit(conn, again, shapes.Shapes()))
    await pair.ask(lambda conn: jobs.holders(conn, ["k0", "k1", "none"]))
    await pair.ask(lambda conn: jobs.found(conn, [new[0].id]))
    return new


@pytest.mark.parametrize("seed", range(4))
async def test_a_ledgers_life(pair: Pair, seed: int) -> None:
    draw = Random(seed)
    term = await pair.ask(lambda conn: leases.take(conn, "sched_1", 60.0))
    await pair.ask(lambda conn: leases.take(conn, "sched_2", 60.0))
    for node in ("n1", "n2"):
        await pair.ask(lambda conn, node=node: _node(conn, node, term))
    new = await _submitted(pair, draw)
    for _ in range(30):
        await _something(pair, draw, new, term)
        await _looked_at(pair, draw, new)
    assert {"apply.APPLY", "tasks.HEADS", "tasks.DUE", "outbox.STALE"} <= pair.twin.asked


async def _node(conn: Any, name: str, term: int) -> None:
    values = {"id": f"node_{name}", "name": name, "state": "ready", "drivers": ["process"], "millis": 4000}
    more = {"memory": 2**30, "version": "1", "labels": Jsonb({}), "facts": Jsonb({}), "leaving": False, "term": term}
    await conn.execute(nodes.UPSERT, values | more)


async def _something(pair: Pair, draw: Random, new: list[Any], term: int) -> None:
    """One step of one task, sometimes from a stale row or under a term that is over."""
    job = draw.choice(new)
    live = (await tasks.by_id(pair.real, [task_of(job.id)]))[0][task_of(job.id)]
    now = await tasks.clock(pair.real)
    event: Any = draw.choice(
        (CancelRequested(), NodeLost(), Started(now), Exited(now), Exited(now, Cause.EXIT_CODE, 3))
    )
    if live.attempt is None or live.attempt.state.terminal:
        event = draw.choice((event, Placed(AttemptId(new_id(ATTEMPT)), NodeId("node_n1"), "n1", term)))
    made = step(live.task, live.attempt, event, now)
    if not isinstance(made, Step):
        return
    if draw.random() < 0.15:
        made = Step(made.base + 1, made.task, made.attempt, made.records, made.commands)
    sent = [row.id for row in await outbox.unsent(pair.real, 0.0)][:1] if draw.random() < 0.3 else []
    doc = msgspec.json.encode(door._document([made], [])).decode()
    under = draw.choice((term, term, None, term + 1))

    async def written(conn: Any) -> Any:
        fence, moved, ordered, _ = await (await conn.execute(door.APPLY, {"doc": doc, "term": under})).fetchone()
        return fence, moved, len(ordered or ())

    await pair.ask(written)
    if sent:
        await pair.ask(lambda conn: _clear_first(conn, term))


async def _clear_first(conn: Any, term: int) -> int:
    first = [row.id for row in await outbox.unsent(conn, 0.0)][:1]
    await outbox.clear(conn, first, term=term)
    return len(first)


async def _looked_at(pair: Pair, draw: Random, new: list[Any]) -> None:
    ids = [task_of(job.id) for job in new]
    await pair.ask(lambda conn: tasks.by_id(conn, ids))
    await pair.ask(lambda conn: _unordered(tasks.all_live(conn)))
    await pair.ask(lambda conn: _unordered(tasks.live_on(conn, NodeId("node_n1"))))
    soon = await tasks.clock(pair.real) + draw.choice((-60.0, 60.0))
    await pair.ask(lambda conn: _unordered(tasks.due(conn, 500, soon)))
    await pair.ask(lambda conn: tasks.next_due(conn, soon))
    await pair.ask(lambda conn: _heads(conn))
    await pair.ask(lambda conn: nodes.every(conn))
    await pair.ask(lambda conn: nodes.wishes(conn))
    await pair.ask(lambda conn: shapes.every(conn))
    await pair.ask(lambda conn: _orders(conn))


async def _unordered(answer: Any) -> Any:
    found = await answer
    rows = found[0] if isinstance(found, tuple) else found
    return sorted((_plain(row) for row in rows), key=repr)


async def _heads(conn: Any) -> Any:
    heads, found, _, _ = await tasks.heads(conn, {1: 2})
    return sorted(head.pending.task_id for head in heads), found


async def _orders(conn: Any) -> Any:
    return [(order.node_id, order.launch, order.stop) for order in await outbox.unsent(conn, 0.0)]


async def test_the_rest_of_what_is_written(pair: Pair) -> None:
    """Leases, letters, logs, nodes' wishes, late reports, deletion."""
    ask = pair.ask
    term = await ask(lambda conn: leases.take(conn, "sched_1", 60.0))
    await ask(lambda conn: leases.leader(conn))
    await ask(lambda conn: leases.renew(conn, "sched_1", term, 60.0))
    await ask(lambda conn: leases.renew(conn, "sched_2", term, 60.0))
    await ask(lambda conn: leases.silent(conn, term))
    await ask(lambda conn: schedulers.seen(conn, "sched_1", "h", 1, "v", redis_degraded=True))
    assert len(await ask(lambda conn: schedulers.readers(conn))) == 1
    await ask(lambda conn: schedulers.gone(conn, "sched_1"))
    for body in (b"[1]", b"[2]"):
        await ask(lambda conn, body=body: inbox.put(conn, body))
    await ask(lambda conn: inbox.take(conn, term=term, suspect=1))
    letters = await ask(lambda conn: inbox.take(conn, term=term, suspect=1))
    assert [letter.taken for letter in letters] == [2]
    await ask(lambda conn: inbox.clear(conn, [letters[0].id], term=term))
    await ask(lambda conn: _node(conn, "n1", term))
    for wish in (nodes.cordon, nodes.uncordon):
        await ask(lambda conn, wish=wish: wish(conn, NodeId("node_n1")))
    await ask(lambda conn: nodes.drain(conn, NodeId("node_n1"), None))
    await ask(lambda conn: nodes.wishes(conn))
    await ask(lambda conn: nodes.state_of(conn, NodeId("node_n1")))
    await ask(lambda conn: nodes.forget(conn, NodeId("node_n1")))
    await _ended_job(pair, term)
    await ask(lambda conn: leases.expire(conn, term))
    await ask(lambda conn: leases.resign(conn, "sched_1", term))
    await ask(lambda conn: leases.leader(conn))


async def _ended_job(pair: Pair, term: int) -> None:
    job = a_job(a_spec(ttl_after_finished=0.0))
    await pair.ask(lambda conn: jobs.submit(conn, [job], shapes.Shapes()))
    attempt_id = AttemptId(new_id(ATTEMPT))
    for event in (Placed(attempt_id, NodeId("node_n1"), "n1", term), CancelRequested(), NodeLost()):
        live = (await tasks.by_id(pair.real, [task_of(job.id)]))[0][task_of(job.id)]
        made = step(live.task, live.attempt, event, await tasks.clock(pair.real))
        assert isinstance(made, Step)
        await pair.ask(lambda conn, made=made: _moved(conn, made, term))
    live = (await tasks.by_id(pair.real, [task_of(job.id)]))[0][task_of(job.id)]
    assert live.attempt is not None
    notes = [late.Late(live.attempt, job.id, "it ended after all")]
    for _ in range(2):
        await pair.ask(lambda conn: late.note(conn, notes, term=term))
    chunks = [logs.LogChunk(attempt_id, "stdout", 0, b"abc"), logs.LogChunk(AttemptId("att_x"), "stdout", 0, b"x")]
    for _ in range(2):
        await pair.ask(lambda conn: logs.append(conn, chunks))
    await pair.ask(lambda conn: logs.stored(conn, attempt_id))
    assert await pair.ask(lambda conn: jobs.expired(conn)) == [job.id]
    await pair.ask(lambda conn: jobs.delete(conn, [job.id], term=term))
    await pair.ask(lambda conn: jobs.found(conn, [job.id]))


async def test_parking(pair: Pair) -> None:
    """Of one that waits, is active, or is over; and from a stale row, or under a term that is over."""
    term = await pair.ask(lambda conn: leases.take(conn, "sched_1", 60.0))
    await pair.ask(lambda conn: _node(conn, "n1", term))
    new = [a_job(a_spec(start_timeout=limit)) for limit in (600.0, 1.0, 600.0, 600.0, 600.0)]
    ids = [task_of(job.id) for job in new]
    await pair.ask(lambda conn: shapes.Shapes().intern(conn, {shape_of(a_spec())}))
    await pair.ask(lambda conn: jobs.submit(conn, new, shapes.Shapes()))
    moves = ((0, None), (1, Placed), (2, Placed), (3, CancelRequested), (4, None))
    for n, event in moves:
        live = (await tasks.by_id(pair.real, [ids[n]]))[0][ids[n]]
        placed = Placed(AttemptId(new_id(ATTEMPT)), NodeId("node_n1"), "n1", term)
        made = step(live.task, None, placed if event is Placed else CancelRequested(), await tasks.clock(pair.real))
        if event is not None:
            assert isinstance(made, Step)
            await pair.ask(lambda conn, made=made: _moved(conn, made, term))
    rows = (await tasks.by_id(pair.real, ids))[0]
    unread = [tasks.unread(rows[one], "why") for one in ids]
    unread[4] = replace(unread[4], version=9)
    until = await tasks.clock(pair.real) + 60
    with pytest.raises(Fenced):
        await park.put(pair.real, unread, until, term=term + 1)
    for _ in range(2):
        assert await pair.ask(lambda conn: park.put(conn, unread, until, term=term)) in ({ids[0]}, set())
        await pair.ask(lambda conn: tasks.by_id(conn, ids))
        await pair.ask(lambda conn: tasks.next_due(conn, until))
        waking = [one.task.id for one in (await tasks.due(pair.real, 9, until + 1))[0]]
        assert sorted(waking) == sorted(ids[:2])


async def _moved(conn: Any, made: Step, term: int) -> Any:
    return (await door.apply(conn, [made], term=term)).moved
