"""The stream of all events: each once, in one order, with no gap, from wherever a reader left off."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.api.serving import SEED, Api, Event, serving, settings_for
from tests.support import HANG_S, wait_until
from windlass.api import events as routes
from windlass.store.db import connect


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    async with asyncio.timeout(HANG_S):
        return [await anext(events) for _ in range(count)]


async def test_a_reader_sees_what_is_new(api: Api):
    old = await api.submit()
    async with api.events("/v1/events") as events:
        await wait_until(lambda: api.listeners == 1, "the reader listens")
        new = await api.submit()
        (event,) = await take(events, 1)
    assert (event.type, event.data["job_id"], event.data["type"]) == ("job.submitted", new, "job.submitted")
    assert event.id == event.data["cursor"]
    assert old != new
    await wait_until(lambda: api.listeners == 0, "nobody listens any more")


async def test_from_the_beginning_and_only_one_jobs(api: Api):
    first, second = await api.submit(), await api.submit()
    await api.run(first)
    story = (await api.http.get(f"/v1/jobs/{first}/events")).json()["events"]
    async with api.events(f"/v1/events?cursor=0-0&job={first}") as events:
        assert [e.data for e in await take(events, len(story))] == story
    async with api.events("/v1/events?cursor=0-0") as events:
        everything = await take(events, len(story) + 1)
    assert {e.data["job_id"] for e in everything} == {first, second}
    async with api.events("/v1/events?cursor=0-0", last_event_id=everything[2].id) as events:
        assert [e.id for e in await take(events, len(story) - 2)] == [e.id for e in everything[3:]]


async def test_no_event_is_missed_or_doubled_under_concurrent_writers(api: Api):
    """Transactions commit out of order here: a reader that went by row numbers alone would skip some."""
    seen: list[Event] = []
    writers, each = 4, 12

    async def write(url: str) -> None:
        async with await connect(url, "test") as conn:
            for i in range(each):
                async with conn.transaction():
                    await conn.execute("INSERT INTO events (job_id, type) VALUES ('j', 'first')")
                    await asyncio.sleep(0.002 * (i % 4))
                    await conn.execute("INSERT INTO events (job_id, type) VALUES ('j', 'second')")

    async def follow() -> None:
        """Read a few, hang up, come back."""
        cursor = "0-0"
        while len(seen) < 2 * writers * each:
            async with api.events(f"/v1/events?cursor={cursor}") as events:
                for event in await take(events, min(7, 2 * writers * each - len(seen))):
                    seen.append(event)
                    cursor = event.id

    url = api.services.pool.conninfo
    async with asyncio.TaskGroup() as group:
        group.create_task(follow())
        for _ in range(writers):
            group.create_task(write(url))
    ids = [event.id for event in seen]
    assert len(set(ids)) == len(ids) == 2 * writers * each
    assert ids == sorted(ids, key=lambda text: tuple(map(int, text.split("-"))))


async def test_a_reader_goes_on_at_another_api(api: Api, redis_url: str):
    """Events and output, from where the first one broke off."""
    job_id = await api.submit()
    attempt = await api.start(job_id)
    await api.write(attempt, b"one\n")
    async with serving(settings_for(api.services.pool.conninfo, redis_url)) as other:
        async with api.events(f"/v1/events?job={job_id}&cursor=0-0") as events:
            first = await take(events, 2)
        async with api.events(f"/v1/jobs/{job_id}/logs?follow=true") as output:
            (line,) = await take(output, 1)
        await api.write(attempt, b"two\n", start=4)
        await api.end(job_id)
        async with other.events(f"/v1/events?job={job_id}", last_event_id=first[-1].id) as events:
            rest = await take(events, 2)
        async with other.events(f"/v1/jobs/{job_id}/logs?follow=true", last_event_id=line.id) as output:
            lines = [event.data async for event in output]
    assert [event.type for event in first + rest] == [
        "job.submitted", "job.placed", "job.started", "job.succeeded",
    ]  # fmt: skip
    assert len({event.id for event in first + rest}) == 4
    assert [one.get("data") or one for one in [line.data, *lines]] == ["b25lCg==", "dHdvCg==", {"state": "succeeded"}]


async def test_more_than_a_page_at_once(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routes, "PAGE", 10)
    await api.http.post("/v1/jobs/batch", json={"jobs": [SEED] * 35})
    async with api.events("/v1/events?cursor=0-0") as events:
        assert len({e.data["job_id"] for e in await take(events, 35)}) == 35


async def test_a_quiet_stream_is_kept_alive(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routes, "KEEP_ALIVE_S", 0.0)
    async with api.http.stream("GET", "/v1/events") as answer:
        lines = answer.aiter_lines()
        said = [line for line in [await anext(lines) for _ in range(4)] if line]
    assert said == [": windlass events", ": keep-alive"]


async def test_a_cursor_of_the_future_waits(api: Api):
    async with api.http.stream("GET", f"/v1/events?cursor={2**62}-0") as answer:
        assert answer.status_code == 200
        await wait_until(lambda: api.listeners == 1, "the reader listens")
