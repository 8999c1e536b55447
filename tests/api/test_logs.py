"""Logs: what was printed, as text and as events, whole or in part, while it comes and after."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.serving import Api, Event, assert_problem, only_news
from tests.support import HANG_S, wait_until
from windlass.core.events import Exited
from windlass.core.ids import AttemptId
from windlass.core.states import Cause
from windlass.store import logs
from windlass.store.logs import LogChunk
from windlass.stream import wire


def text_of(events: list[Event]) -> bytes:
    return b"".join(base64.b64decode(e.data["data"]) for e in events if e.type == "chunk")


async def read(api: Api, job_id: str, query: str = "", **headers: str) -> list[Event]:
    async with api.events(f"/v1/jobs/{job_id}/logs?{query}", **headers) as events:
        return [event async for event in events]


async def test_text_is_what_was_printed_by_arrival(api: Api):
    job_id = await api.submit()
    assert (await api.http.get(f"/v1/jobs/{job_id}/logs")).content == b""
    attempt = await api.start(job_id)
    await api.write(attempt, b"one\n", b"two \x00\xff\n")
    await api.write(attempt, b"oops\n", stream="stderr")
    await api.write(attempt, b"three", start=13)
    answer = await api.http.get(f"/v1/jobs/{job_id}/logs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.content == b"one\ntwo \x00\xff\noops\nthree"
    assert (await api.http.get(f"/v1/jobs/{job_id}/logs?stream=stderr")).content == b"oops\n"
    assert (await api.http.get(f"/v1/jobs/{job_id}/logs?stream=stdout")).content == b"one\ntwo \x00\xff\nthree"


async def test_events_carry_bytes_streams_and_offsets(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    await api.write(attempt, b"\xff\x00\n", b"more\n")
    await api.write(attempt, b"err", stream="stderr")
    *chunks, end = await read(api, job_id)
    assert [(e.data["stream"], e.data["offset"], e.data["attempt"]) for e in chunks] == [
        ("stdout", 0, 1), ("stdout", 3, 1), ("stderr", 0, 1)
    ]  # fmt: skip
    assert text_of(chunks) == b"\xff\x00\nmore\nerr"
    assert all(e.data["at"].endswith("Z") and e.id for e in chunks)
    assert (end.type, end.data) == ("end", {"state": "running"})


async def test_the_latest_attempt_unless_another_is_named(api: Api):
    job_id = await api.submit(max_retries=1, backoff={"initial": 0})
    first = await api.start(job_id)
    await api.write(first, b"first\n")
    await api.end(job_id, Exited(1.0, Cause.EXIT_CODE, 1))
    await api.http.post(f"/v1/jobs/{job_id}/retry")
    await api.write(await api.start(job_id), b"second\n")
    path = f"/v1/jobs/{job_id}/logs"
    assert (await api.http.get(path)).content == b"second\n"
    assert (await api.http.get(f"{path}?attempt=1")).content == b"first\n"
    assert (await api.http.get(f"{path}?attempt=2")).content == b"second\n"
    assert_problem(await api.http.get(f"{path}?attempt=3"), 404, "no attempt")
    await api.end(job_id)
    assert (await api.http.get(f"{path}?follow=true")).content == b"first\nsecond\n"
    assert_problem(await api.http.get(f"{path}?attempt=3&follow=true"), 404)


def last_lines(text: bytes, count: int) -> bytes:
    return b"".join(text.splitlines(keepends=True)[-count:]) if count else b""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.text("ab\n", min_size=1, max_size=12), max_size=40), count=st.integers(0, 30))
async def test_tail_is_exactly_the_last_lines(api: Api, pieces: list[str], count: int):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    await api.write(attempt, *[piece.encode() for piece in pieces])
    answer = await api.http.get(f"/v1/jobs/{job_id}/logs?tail={count}")
    assert answer.content == last_lines("".join(pieces).encode(), count)
    events = await read(api, job_id, f"tail={count}")
    assert text_of(events) == answer.content


async def test_tail_of_one_stream_and_of_one_attempt(api: Api):
    job_id = await api.submit(max_retries=1)
    first = await api.start(job_id)
    await api.write(first, b"a\nb\n", b"c\nd")
    await api.write(first, b"1\n2\n3\n4\n", stream="stderr")
    await api.end(job_id, Exited(1.0, Cause.EXIT_CODE, 1))
    path = f"/v1/jobs/{job_id}/logs"
    assert (await api.http.get(f"{path}?tail=3&stream=stdout")).content == b"b\nc\nd"
    assert (await api.http.get(f"{path}?tail=1&stream=stderr&attempt=1")).content == b"4\n"
    assert (await api.http.get(f"{path}?tail=100")).content == b"a\nb\nc\nd1\n2\n3\n4\n"


async def test_since(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    await api.write(attempt, b"old\n")
    await api.ledger.conn.execute("UPDATE log_chunks SET at = now() - interval '1 hour'")
    await api.write(attempt, b"new\n", start=4)
    path = f"/v1/jobs/{job_id}/logs"
    half = (datetime.now(UTC) - timedelta(minutes=30)).replace(tzinfo=None).isoformat()
    for since, wanted in {
        "60": b"new\n", "7200": b"old\nnew\n", f"{half}Z": b"new\n", f"{half}": b"new\n", "-5": b"",
        "1e10": b"old\nnew\n",
        "0001-01-01T00:00:00%2B14:00": b"old\nnew\n", "9999-12-31T23:59:59-14:00": b"", "2000-01-01": b"old\nnew\n",
    }.items():  # fmt: skip
        answer = await api.http.get(f"{path}?since={since}")
        assert (answer.status_code, answer.content) == (200, wanted), since
    assert (await api.http.get(f"{path}?tail=5&since=60")).content == b"new\n"


async def test_a_gap_is_shown_as_a_gap(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    await api.write(attempt, b"head\n")
    await logs.append(api.ledger.conn, [LogChunk(attempt, "stdout", 5, b"", missing=1000)])
    await api.write(attempt, b"tail\n", start=1005)
    text = (await api.http.get(f"/v1/jobs/{job_id}/logs")).text
    assert text == "head\n\n[windlass: 1000 bytes of stdout are not kept]\ntail\n"
    kinds = [(e.type, e.data.get("offset"), e.data.get("missing")) for e in await read(api, job_id)]
    assert kinds == [("chunk", 0, None), ("gap", 5, 1000), ("chunk", 1005, None), ("end", None, None)]


async def test_following_shows_output_as_it_comes_through_all_attempts(api: Api):
    job_id = await api.submit(max_retries=1, backoff={"initial": "10m"})
    async with api.events(f"/v1/jobs/{job_id}/logs?follow=true") as events:
        first = await api.start(job_id)
        await api.write(first, b"first\n")
        assert text_of([await anext(events)]) == b"first\n"
        await api.write(first, b"last words\n", start=6)
        await api.end(job_id, Exited(1.0, Cause.EXIT_CODE, 1))
        await api.http.post(f"/v1/jobs/{job_id}/retry")
        assert text_of([await anext(events)]) == b"last words\n"
        second = await api.start(job_id)
        await api.write(second, b"second\n")
        event = await anext(events)
        assert (event.data["attempt"], text_of([event])) == (2, b"second\n")
        await api.end(job_id)
        end = await anext(events)
        assert (end.type, end.data) == ("end", {"state": "succeeded"})
        assert [event async for event in events] == []
    await wait_until(lambda: api.listeners == 0, "nobody listens any more")


async def test_following_one_attempt_ends_with_it(api: Api):
    job_id = await api.submit(max_retries=1, backoff={"initial": "10m"})
    following = asyncio.create_task(read(api, job_id, "follow=true&attempt=1"))
    first = await api.start(job_id)
    await api.write(first, b"first\n")
    await api.end(job_id, Exited(1.0, Cause.EXIT_CODE, 1))
    events = await asyncio.wait_for(following, HANG_S)
    assert text_of(events) == b"first\n"
    assert events[-1].data == {"state": "queued"}


async def test_following_wakes_by_news(api: Api, monkeypatch: pytest.MonkeyPatch):
    only_news(monkeypatch)
    job_id = await api.submit()
    attempt = await api.start(job_id)
    async with api.events(f"/v1/jobs/{job_id}/logs?follow=true") as events:
        for i in range(6):
            await wait_until(lambda: api.listeners == 3, "the reader waits")
            body = [(attempt, "stdout", i, 0, b"x")]
            await post_chunks(api, body)
            async with asyncio.timeout(HANG_S):
                await anext(events)


async def post_chunks(api: Api, chunks: list[tuple[AttemptId, str, int, int, bytes]]) -> None:
    import msgspec

    answer = await api.http.post("/v1/internal/logs", content=msgspec.msgpack.encode(chunks))
    assert answer.status_code == 204, answer.text


async def test_a_reader_resumes_behind_the_last_event_it_saw(api: Api):
    job_id = await api.submit(max_retries=1)
    first = await api.start(job_id)
    await api.write(first, b"a", b"b", b"c")
    await api.end(job_id, Exited(1.0, Cause.EXIT_CODE, 1))
    await api.http.post(f"/v1/jobs/{job_id}/retry")
    await api.write(await api.start(job_id), b"d", b"e")
    await api.end(job_id)
    whole = await read(api, job_id, "follow=true")
    assert text_of(whole) == b"abcde"
    for i, event in enumerate(whole[:-1]):
        rest = await read(api, job_id, "follow=true", last_event_id=event.id)
        assert [e.id for e in rest] == [e.id for e in whole[i + 1 :]]
        assert text_of(rest) == b"abcde"[i + 1 :]
    assert text_of(await read(api, job_id, "follow=true&tail=1", last_event_id=whole[0].id)) == b"bcde"


@pytest.mark.parametrize("odd", ["x", "1", "1:", ":1", "1:x", "9" * 40 + ":1", "999999999:999999999999999999"])
async def test_an_odd_place_to_resume_from_does_no_harm(api: Api, odd: str):
    job_id = await api.submit()
    await api.write(await api.start(job_id), b"a")
    await api.end(job_id)
    assert (await read(api, job_id, "", last_event_id=odd))[-1].type == "end"


async def test_following_what_is_deleted_ends(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    await api.write(attempt, b"a")
    async with api.events(f"/v1/jobs/{job_id}/logs?follow=true") as events:
        await anext(events)
        await api.end(job_id)
        assert (await api.http.delete(f"/v1/jobs/{job_id}")).status_code == 204
        rest = [event async for event in events]
    assert [event.type for event in rest] in ([], ["end"])
    await wait_until(lambda: api.listeners == 0, "nobody listens any more")


async def test_a_log_of_many_chunks_is_whole(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    pieces = [f"{i:06}\n".encode() * 300 for i in range(700)]
    await api.write(attempt, *pieces)
    answer = await api.http.get(f"/v1/jobs/{job_id}/logs")
    assert answer.content == b"".join(pieces)
    tail = (await api.http.get(f"/v1/jobs/{job_id}/logs?tail=50000")).content
    assert tail == b"".join(pieces)[-50000 * 7 :]


async def test_what_workers_send_is_kept_once(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    for _ in range(2):
        await post_chunks(api, [(attempt, "stdout", 0, 0, b"abc"), (attempt, "stderr", 0, 0, b"e")])
    await post_chunks(api, [(attempt, "stdout", 3, 7, b"")])
    assert (await api.http.get(f"/v1/internal/logs/{attempt}")).json() == {"stdout": 10, "stderr": 1}
    assert [e.type for e in await read(api, job_id)] == ["chunk", "chunk", "gap", "end"]
    await post_chunks(api, [(AttemptId("att_" + "0" * 26), "stdout", 0, 0, b"nobody's")])
    assert await api.ledger.one("SELECT count(*) FROM log_chunks") == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"\x00", 400), (b"not msgpack", 400), (b"\x91\x95\xa1x\xa6stdout\x00\x00\xc4\x00", 422),
        (b"\x90", 204), (b"x" * (8 * 2**20 + 1), 413),
        (b"\x91\x95\xbeatt_00000000000000000000000000\xa6stdout\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x00\xc4\x00", 422),
        (b"\x91\x95\xbeatt_00000000000000000000000000\xa6stdout\x00\xff\xc4\x00", 422),
    ],
    ids=["empty", "a number", "text", "a bad id", "none", "too much", "a huge offset", "less than nothing missing"],
)  # fmt: skip
async def test_what_workers_must_not_send(api: Api, body: bytes, status: int):
    answer = await api.http.post("/v1/internal/logs", content=body)
    assert answer.status_code == status, answer.text


async def test_news_of_another_api_process_wake_readers_here(api: Api):
    job_id = await api.submit()
    attempt = await api.start(job_id)
    async with api.events(f"/v1/jobs/{job_id}/logs?follow=true") as events:
        await wait_until(lambda: api.listeners == 3, "the reader waits")
        await api.write(attempt, b"x")
        await api.services.producer.send(news=[wire.Output((attempt,))])
        assert text_of([await anext(events)]) == b"x"
