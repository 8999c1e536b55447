"""For workers: output on its way into the log store. Not part of the public API."""

from contextlib import suppress

import msgspec
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from windlass.api.answers import reply
from windlass.api.deps import Means
from windlass.core.ids import ATTEMPT, AttemptId, is_id
from windlass.store import logs
from windlass.store.db import borrow
from windlass.store.logs import LogChunk
from windlass.stream import wire
from windlass.stream.produce import StreamDown

router = APIRouter(prefix="/v1/internal", include_in_schema=False)

BODY_LIMIT = 8 * 2**20
FARTHEST = 2**60
_decode = msgspec.msgpack.Decoder(list[tuple[str, str, int, int, bytes]]).decode


@router.post("/logs")
async def append(request: Request, services: Means) -> Response:
    """Keep chunks; one sent twice is kept once."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > BODY_LIMIT:
            raise HTTPException(413, f"more than {BODY_LIMIT} bytes of output in one request")
    try:
        chunks = [LogChunk(AttemptId(a), stream, start, data, gap) for a, stream, start, gap, data in _decode(raw)]
    except msgspec.MsgspecError as error:
        raise HTTPException(400, f"not a list of chunks: {error}") from error
    if not all(map(_sound, chunks)):
        raise HTTPException(422, "a chunk names an attempt, stdout or stderr, an offset, and how much is missing")
    async with borrow(services.pool) as conn:
        await logs.append(conn, chunks)
    topics = tuple({c.attempt_id for c in chunks})
    services.hub.wake(*topics)
    with suppress(StreamDown):  # whoever follows elsewhere looks again by the clock
        await services.producer.send(news=[wire.Output(topics)])
    return Response(status_code=204)


def _sound(chunk: LogChunk) -> bool:
    named = is_id(chunk.attempt_id, ATTEMPT) and chunk.stream in ("stdout", "stderr")
    return named and 0 <= chunk.start <= FARTHEST and 0 <= chunk.missing <= FARTHEST


@router.get("/logs/{attempt_id}")
async def stored(services: Means, attempt_id: str) -> Response:
    """How many bytes of each stream are stored, for a worker that goes on with an attempt."""
    async with borrow(services.pool) as conn:
        return reply(await logs.stored(conn, AttemptId(attempt_id)))
