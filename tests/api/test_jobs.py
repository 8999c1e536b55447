"""Jobs: list, get, wait, cancel, retry, delete."""

import asyncio
from typing import Any

import pytest

from tests.api.serving import SEED, Api, assert_problem, only_news
from tests.builders import a_node
from tests.support import HANG_S, wait_until
from windlass.core.events import Exited, NodeLost
from windlass.core.ids import JobId
from windlass.core.states import Cause
from windlass.stream import wire


async def pages(api: Api, query: str, limit: int = 7) -> list[str]:
    """Ids of all pages, in order."""
    found: list[str] = []
    cursor = ""
    while True:
        answer = await api.http.get(f"/v1/jobs?limit={limit}&{query}{cursor}")
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["jobs"]) <= limit
        found += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def submit_many(api: Api, count: int, **fields: Any) -> list[str]:
    answer = await api.http.post("/v1/jobs/batch", json={"jobs": [SEED | fields] * count})
    return [result["id"] for result in answer.json()["results"]]


async def test_a_list_is_newest_first_page_by_page(api: Api):
    ids = await submit_many(api, 30)
    assert await pages(api, "") == sorted(ids, reverse=True)
    exact = (await api.http.get("/v1/jobs?limit=30")).json()
    assert exact["next_cursor"] is None
    assert len(exact["jobs"]) == 30


async def test_paging_misses_and_doubles_nothing_while_jobs_come_and_go(api: Api):
    before = await submit_many(api, 60)
    done = asyncio.Event()

    async def more() -> None:
        while not done.is_set():
            await submit_many(api, 3)
            job_id = JobId((await submit_many(api, 1))[0])
            await api.run(job_id)
            assert (await api.http.delete(f"/v1/jobs/{job_id}")).status_code == 204

    writer = asyncio.create_task(more())
    for _ in range(3):
        found = await pages(api, "", limit=9)
        assert len(found) == len(set(found))
        assert found == sorted(found, reverse=True)
        assert set(before) <= set(found)
    done.set()
    await writer


async def test_filters(api: Api):
    plain, named, labelled, elsewhere = [
        await api.submit(**fields)
        for fields in ({}, {"name": "n 1"}, {"labels": {"team": "data", "x/y": "1"}}, {"queue": "gpu"})
    ]
    await api.start(labelled)
    await api.run(named)
    cases = {
        "state=queued": {plain, elsewhere},
        "state=running": {labelled},
        "state=succeeded": {named},
        "state=failed": set[str](),
        "name=n%201": {named},
        "label=team%3Ddata": {labelled},
        "label=team%3Ddata&label=x/y%3D1": {labelled},
        "label=team%3Ddata&label=x/y%3D2": set[str](),
        "queue=gpu": {elsewhere},
        "queue=default": {plain, named, labelled},
        "state=queued&queue=gpu": {elsewhere},
        "state=running&label=team%3Ddata&queue=default": {labelled},
    }
    for query, wanted in cases.items():
        assert set(await pages(api, query, limit=2)) == wanted, query


async def test_each_state_is_found_by_its_name(api: Api):
    failed, cancelled, backoff, running = [await api.submit(max_retries=n) for n in (0, 3, 3, 3)]
    await api.start(failed)
    await api.end(failed, Exited(1.0, Cause.EXIT_CODE, 7, "exited with code 7"))
    await api.http.post(f"/v1/jobs/{cancelled}/cancel")
    await api.start(backoff)
    await api.end(backoff, Exited(1.0, Cause.EXIT_CODE, 7))
    await api.start(running)
    states = ("failed", "cancelled", "queued", "running", "held", "blocked")
    found = {state: await pages(api, f"state={state}") for state in states}
    assert found == dict(zip(states, ([failed], [cancelled], [backoff], [running], [], []), strict=True))


async def test_a_job_tells_its_attempts(api: Api):
    job_id = await api.submit(max_retries=1)
    await api.start(job_id, a_node("n7"))
    await api.end(job_id, Exited(1.0, Cause.EXIT_CODE, 3, "exited with code 3"))
    job = await api.job(job_id)
    assert job["state"] == "queued"
    assert job["status"]["retries"] == 1
    (attempt,) = job["status"]["attempts"]
    assert attempt["number"] == 1
    assert attempt["node"] == "n7"
    assert attempt["state"] == "failed"
    assert attempt["exit_code"] == 3
    assert attempt["cause"] == "exit_code"
    assert attempt["message"] == "exited with code 3"
    assert attempt["placed_at"].endswith("Z")
    assert attempt["started_at"].endswith("Z")
    assert attempt["finished_at"].endswith("Z")


async def test_a_queued_job_says_why_per_node_with_numbers(api: Api):
    first = await api.submit()
    job_id = await api.submit(resources={"cpu": 3})
    await api.register(a_node("small", cpu=2))
    await api.register(a_node("large", cpu=8))
    status = (await api.job(job_id))["status"]
    answers = {n["node"]: n for n in status["explanation"]}
    assert answers["small"]["fits"] is False
    assert "2" in answers["small"]["reasons"][0]
    assert answers["large"]["fits"] is True
    assert status["ahead"] == 1
    assert (await api.job(first))["status"]["ahead"] == 0
    assert "1 of 2 nodes" in status["reason"]


async def test_waiting_ends_with_the_job(api: Api, monkeypatch: pytest.MonkeyPatch):
    only_news(monkeypatch)
    job_id = await api.submit()
    waiting = asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait=30"))
    await wait_until(lambda: api.listeners == 1, "the request waits")
    await api.run(job_id)
    await api.services.producer.send(news=[wire.Ended((job_id,))])
    assert (await waiting).json()["state"] == "succeeded"
    assert api.listeners == 0


async def test_waiting_sees_the_end_though_the_news_are_lost(api: Api):
    job_id = await api.submit()
    waiting = asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait=30"))
    await wait_until(lambda: api.listeners == 1, "the request waits")
    await api.run(job_id)
    assert (await asyncio.wait_for(waiting, HANG_S)).json()["state"] == "succeeded"


async def test_waiting_has_an_end(api: Api, monkeypatch: pytest.MonkeyPatch):
    job_id = await api.submit()
    answer = await api.http.get(f"/v1/jobs/{job_id}?wait=0.2")
    assert answer.json()["state"] == "queued"
    await api.run(job_id)
    only_news(monkeypatch)
    assert (await api.http.get(f"/v1/jobs/{job_id}?wait=30")).json()["state"] == "succeeded"


async def test_cancelling_what_waits_ends_it_at_once(api: Api):
    job_id = await api.submit()
    waiting = asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait=30"))
    await wait_until(lambda: api.listeners == 1, "the request waits")
    answer = await api.http.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelled"
    assert (await asyncio.wait_for(waiting, HANG_S)).json()["state"] == "cancelled"
    again = await api.http.post(f"/v1/jobs/{job_id}/cancel")
    assert again.status_code == 202
    assert again.json()["finished_at"] == answer.json()["finished_at"]


async def test_cancelling_what_runs_is_a_wish_until_it_is_gone(api: Api):
    job_id = await api.submit()
    await api.start(job_id)
    for _ in range(2):
        job = (await api.http.post(f"/v1/jobs/{job_id}/cancel")).json()
        assert job["state"] == "running"
        assert job["status"]["cancel_requested"] is True
        assert job["status"]["attempts"][0]["state"] == "stopping"
    assert await api.ledger.one("SELECT count(*) FROM outbox WHERE body->'stop' IS NOT NULL") >= 1
    await api.end(job_id, Exited(1.0, Cause.CANCELLED, 143))
    assert (await api.job(job_id))["state"] == "cancelled"


async def test_cancelling_too_late_changes_nothing(api: Api):
    job_id = await api.submit()
    await api.run(job_id)
    answer = await api.http.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] == "succeeded"
    assert answer.json()["status"]["cancel_requested"] is False


async def test_many_cancel_at_once(api: Api):
    job_id = await api.submit()
    await api.start(job_id)
    answers = await asyncio.gather(*(api.http.post(f"/v1/jobs/{job_id}/cancel") for _ in range(20)))
    assert {a.status_code for a in answers} == {202}
    assert await api.ledger.one("SELECT count(*) FROM events WHERE type LIKE '%%cancel%%'") == 1


async def test_retrying_what_is_over_makes_a_new_job(api: Api):
    job_id = await api.submit(name="n", labels={"a": "b"})
    await api.run(job_id)
    headers = {"idempotency-key": "again"}
    first = await api.http.post(f"/v1/jobs/{job_id}/retry", headers=headers)
    assert first.status_code == 201
    job, old = first.json(), await api.job(job_id)
    assert first.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["id"] != job_id
    assert job["retry_of"] == job_id
    assert job["spec"] == old["spec"]
    assert old["state"] == "succeeded"
    again = await api.http.post(f"/v1/jobs/{job_id}/retry", headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, job["id"])


async def test_retrying_what_waits_lets_it_go_at_once(api: Api):
    job_id = await api.submit(backoff={"initial": "10m"})
    await api.start(job_id)
    await api.end(job_id, Exited(1.0, Cause.EXIT_CODE, 1))
    assert await api.ledger.one("SELECT state FROM tasks WHERE job_id = %s", job_id) == "backoff"
    answer = await api.http.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["id"]) == (200, job_id)
    assert await api.ledger.one("SELECT state FROM tasks WHERE job_id = %s", job_id) == "queued"


async def test_retrying_what_is_queued_or_runs_is_a_conflict(api: Api):
    job_id = await api.submit()
    assert_problem(await api.http.post(f"/v1/jobs/{job_id}/retry"), 409, "queued")
    await api.start(job_id)
    assert_problem(await api.http.post(f"/v1/jobs/{job_id}/retry"), 409, "is running")


async def test_only_what_is_over_is_deleted(api: Api):
    job_id = await api.submit()
    assert_problem(await api.http.delete(f"/v1/jobs/{job_id}"), 409, "cancel it first")
    attempt = await api.start(job_id)
    assert_problem(await api.http.delete(f"/v1/jobs/{job_id}"), 409)
    await api.write(attempt, b"x")
    await api.end(job_id)
    answer = await api.http.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert_problem(await api.http.get(f"/v1/jobs/{job_id}"), 404)
    assert_problem(await api.http.delete(f"/v1/jobs/{job_id}"), 404)
    for table in ("jobs", "tasks", "attempts", "log_chunks"):
        assert await api.ledger.one(f"SELECT count(*) FROM {table}") == 0
    assert await api.ledger.one("SELECT string_agg(type, ' ') FROM events") == "job.deleted"


async def test_a_jobs_events_tell_its_story_in_order(api: Api):
    job_id, other = await api.submit(max_retries=1), await api.submit()
    await api.start(job_id)
    await api.ledger.move(job_id, NodeLost())
    await api.http.post(f"/v1/jobs/{other}/cancel")
    answer = await api.http.get(f"/v1/jobs/{job_id}/events")
    events = answer.json()["events"]
    types = [event["type"] for event in events]
    assert types[0] == "job.submitted"
    assert types.index("job.placed") < types.index("job.queued")
    assert {event["job_id"] for event in events} == {job_id}
    assert all(event["at"].endswith("Z") and event["cursor"] for event in events)


@pytest.mark.parametrize("by", ["id", "name"])
async def test_nodes(api: Api, by: str):
    node = a_node("n1", cpu=4)
    await api.register(node)
    job_id = await api.submit(resources={"cpu": 1.5, "memory": "1Gi"})
    await api.start(job_id, node)
    (listed,) = (await api.http.get("/v1/nodes")).json()["nodes"]
    found = (await api.http.get(f"/v1/nodes/{getattr(node, by)}")).json()
    assert found == listed
    assert found["capacity"] == {"cpu": 4.0, "memory": 8 * 2**30}
    assert found["used"] == {"cpu": 1.5, "memory": 2**30}
    assert found["free"] == {"cpu": 2.5, "memory": 7 * 2**30}
    assert found["drivers"] == ["docker", "process"]
    assert found["labels"] == {"zone": "a"}
    assert found["attempts"] == 1
    assert found["state"] == "ready"
    for missing in ("n2", "x" * 5000, "%00", "%FF"):
        assert_problem(await api.http.get(f"/v1/nodes/{missing}"), 404, "no node")
