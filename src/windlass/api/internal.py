"""For workers: output on its way into the log store, and the exchange: reports and commands past a broken stream.
Not part of the public API."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from windlass.api import access
from windlass.api.answers import reply
from windlass.api.deps import Means, bounded
from windlass.core.ids import ATTEMPT, NODE, AttemptId, is_id
from windlass.core.states import AttemptState
from windlass.metrics import api as metrics
from windlass.store import inbox, logs, tasks, tokens
from windlass.store.db import Conn, borrow
from windlass.store.logs import LogChunk
from windlass.store.tasks import Live, Unread
from windlass.stream import wire
from windlass.stream.orders import order_again, untold
from windlass.stream.outage import StreamDown

router = APIRouter(prefix="/v1/internal", include_in_schema=False)

BODY_LIMIT = 8 * 2**20
FARTHEST = 2**60
_decode = msgspec.msgpack.Decoder(list[tuple[str, str, int, int, bytes]]).decode


@router.post("/logs")
async def append(request: Request, services: Means) -> Response:
    """Keep chunks; one sent twice is kept once."""
    raw = await bounded(request, BODY_LIMIT)
    try:
        chunks = [LogChunk(AttemptId(a), stream, start, data, gap) for a, stream, start, gap, data in _decode(raw)]
    except msgspec.MsgspecError as error:
        raise HTTPException(400, f"not a list of chunks: {error}") from error
    if not all(map(_sound, chunks)):
        raise HTTPException(422, "a chunk names an attempt, stdout or stderr, an offset, and how much is missing")
    async with borrow(services.pool) as conn:
        await _own(conn, [chunk.attempt_id for chunk in chunks])
        await logs.append(conn, chunks)
    for chunk in chunks:
        metrics.LOG_BYTES.labels(chunk.stream).inc(len(chunk.data))
        metrics.LOG_MISSING.labels(chunk.stream).inc(chunk.missing)
    topics = tuple({c.attempt_id for c in chunks})
    services.hub.wake(*topics)
    with suppress(StreamDown):  # whoever follows elsewhere looks again by the clock
        await services.producer.send(news=[wire.Output(topics)])
    return Response(status_code=204)


async def _own(conn: Conn, attempt_ids: Sequence[AttemptId]) -> None:
    """A node that has a token of its own has to do with its own attempts alone. Raises HTTPException 403."""
    mine = access.caller().node_id
    if mine is not None and await tokens.of_others(conn, attempt_ids, mine):
        raise HTTPException(403, "this token is a node's, and an attempt among these is another node's")


def _sound(chunk: LogChunk) -> bool:
    named = is_id(chunk.attempt_id, ATTEMPT) and chunk.stream in ("stdout", "stderr")
    return named and 0 <= chunk.start <= FARTHEST and 0 <= chunk.missing <= FARTHEST


@router.get("/logs/{attempt_id}")
async def stored(services: Means, attempt_id: str) -> Response:
    """How many bytes of each stream are stored, for a worker that goes on with an attempt."""
    async with borrow(services.pool) as conn:
        await _own(conn, [AttemptId(attempt_id)])
        return reply(await logs.stored(conn, AttemptId(attempt_id)))


@router.post("/exchange")
async def exchange(request: Request, services: Means) -> Response:
    """Keep what a node reports for the leader; answers with all the ledger says the node should be told, by what it
    says it holds. Any of it may be told again, here or on the stream."""
    raw = await bounded(request, BODY_LIMIT)
    beat = _beat(raw)
    if access.caller().node_id not in (None, beat.node_id):
        raise HTTPException(403, "this token is another node's: a node speaks for itself alone")
    async with borrow(services.pool) as conn:
        await inbox.put(conn, raw)
        live, others, now = await tasks.live_on(conn, beat.node_id)
    return Response(wire.encode(_owed(beat, live, others, now)), media_type="application/json")


def _beat(raw: bytes) -> wire.Beat:
    """Who speaks, and what it holds. Raises HTTPException."""
    reader = wire.reports()
    try:
        if not isinstance(msgspec.json.decode(raw), list):
            raise HTTPException(400, "not a list of reports")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    reports = reader.read([raw])
    beats = [report for report in reports if isinstance(report, wire.Beat)]
    if len(beats) != 1 or not is_id(beats[0].node_id, NODE):
        raise HTTPException(422, "an exchange has one beat, of the node that speaks")
    if any(getattr(report, "node_id", None) != beats[0].node_id for report in reports):
        raise HTTPException(422, "all reports of an exchange are of the node that speaks")
    return beats[0]


def _owed(beat: wire.Beat, live: Sequence[Live], others: Sequence[Unread], now: float) -> list[wire.CommandOut]:
    """Launches it has not taken up, stops, what it should tell again, and what it should forget. Of what cannot be read
    it is told nothing."""
    owed: list[wire.CommandOut] = []
    again: list[AttemptId] = []
    held = set(beat.attempts)
    for one in live:
        attempt = one.attempt
        if attempt is None:
            continue
        if attempt.id in held and attempt.state is not AttemptState.STOPPING:
            if untold(attempt, now):
                again.append(attempt.id)
        elif (order := order_again(one.task, attempt, one.spec_text, now)) is not None:
            owed.append(order)
    gone = held - {one.attempt.id for one in live if one.attempt is not None} - {one.attempt_id for one in others}
    if again:
        owed.append(wire.Tell(tuple(again)))
    if gone:
        owed.append(wire.Forget(tuple(gone)))
    return owed
