"""The ledger away, the stream away, and both back: never a yes that is not kept, never a hang, no restart needed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.serving import SEED, Api, assert_problem, serving, settings_for
from tests.support import HANG_S, wait_until
from windlass.embedded.folder import DataFolder
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.store.db import connect
from windlass.store.migrate import migrate

#: Between tries: a refusal comes at once, and who tries again without a pause only keeps the processor busy.
PAUSE_S = 0.1


class Own:
    """Servers of this module's own, to be stopped and started; an API over them."""

    def __init__(self, folder: DataFolder) -> None:
        self.postgres, self.valkey = Postgres(folder), Valkey(folder)
        self.api: Api
        self.stream_url = ""

    async def start(self) -> tuple[str, str]:
        database = await self.postgres.start()
        await migrate(database)
        self.stream_url = await self.valkey.start()
        return database, self.stream_url


@pytest.fixture(scope="module")
async def own(roomy_folder: Path, anyio_backend: str) -> AsyncIterator[Own]:
    with DataFolder(roomy_folder / "outage") as folder:
        mine = Own(folder)
        try:
            database, stream = await mine.start()
            async with serving(settings_for(database, stream, pool_max=4)) as mine.api:
                yield mine
        finally:
            await mine.postgres.stop()
            await mine.valkey.stop()


async def healed(own: Own) -> None:
    async def ready() -> bool:
        answer = await own.api.http.get("/readyz")
        return answer.json()["checks"] == {"ledger": "ok", "stream": "ok"}

    await wait_until(ready, "the API is ready again")


async def count_jobs(own: Own) -> int:
    async with await connect(own.api.services.pool.conninfo, "test") as conn:
        row = await (await conn.execute("SELECT count(*) FROM jobs")).fetchone()
        assert row is not None
        return row[0]


async def test_with_the_ledger_away_everything_answers_503(own: Own):
    job_id = await own.api.submit()
    await own.postgres.stop()
    try:
        requests = [
            own.api.http.post("/v1/jobs", json=SEED),
            own.api.http.post("/v1/jobs/batch", json={"jobs": [SEED]}),
            own.api.http.get("/v1/jobs"),
            own.api.http.get(f"/v1/jobs/{job_id}"),
            own.api.http.get(f"/v1/jobs/{job_id}?wait=1"),
            own.api.http.post(f"/v1/jobs/{job_id}/cancel"),
            own.api.http.post(f"/v1/jobs/{job_id}/retry"),
            own.api.http.delete(f"/v1/jobs/{job_id}"),
            own.api.http.get(f"/v1/jobs/{job_id}/logs"),
            own.api.http.get(f"/v1/jobs/{job_id}/events"),
            own.api.http.get("/v1/events"),
            own.api.http.get("/v1/nodes"),
        ]
        for answer in await asyncio.gather(*requests):
            assert_problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
        assert (await own.api.http.get("/livez")).status_code == 200
        ready = await own.api.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.headers["retry-after"] == "1"
        assert ready.json()["checks"]["ledger"] != "ok"
    finally:
        await own.postgres.start()
    await healed(own)
    assert (await own.api.job(job_id))["state"] == "queued"


async def test_a_yes_is_kept_whenever_the_ledger_dies(own: Own):
    """Submits run while the server is killed and comes back: what was answered 201 is there, nothing else is."""
    before = await count_jobs(own)
    accepted: list[str] = []
    refused = 0
    over = asyncio.Event()

    async def submit() -> None:
        nonlocal refused
        while not over.is_set():
            answer = await own.api.http.post("/v1/jobs", json=SEED)
            if answer.status_code == 201:
                accepted.append(answer.json()["id"])
            else:
                assert_problem(answer, 503)
                refused += 1
                await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(submit())
        await wait_until(lambda: len(accepted) > 50, "some are accepted")
        own.postgres.kill()
        await wait_until(lambda: refused, "the outage is told")
        await own.postgres.start()
        mark = len(accepted)
        await wait_until(lambda: len(accepted) > mark + 20, "submits are accepted again")
        over.set()
    for job_id in accepted:
        assert (await own.api.http.get(f"/v1/jobs/{job_id}")).status_code == 200
    # A commit whose answer was lost may have left a job nobody was told of; each refused submit at most one.
    assert 0 <= await count_jobs(own) - before - len(accepted) <= refused
    await healed(own)


async def test_submits_with_a_key_are_safe_to_repeat_over_an_outage(own: Own):
    before = await count_jobs(own)

    async def insist(key: str) -> str:
        while True:
            answer = await own.api.http.post("/v1/jobs", json=SEED, headers={"idempotency-key": key})
            if answer.status_code in (200, 201):
                return answer.json()["id"]
            assert_problem(answer, 503)
            await asyncio.sleep(PAUSE_S)

    first = asyncio.gather(*(insist(f"key {i}") for i in range(30)))
    own.postgres.kill()
    await own.postgres.start()
    ids = await first
    assert ids == await asyncio.gather(*(insist(f"key {i}") for i in range(30)))
    assert len(set(ids)) == await count_jobs(own) - before == 30
    await healed(own)


async def test_streams_survive_or_end_but_never_lie_over_an_outage(own: Own):
    job_id = await own.api.submit()
    seen: list[str] = []

    async def follow() -> None:
        """As a client does: on a broken stream, go on behind the last event."""
        place = "0-0"
        while "job.cancelled" not in seen:
            try:
                async with own.api.events(f"/v1/events?cursor={place}&job={job_id}") as events:
                    async for event in events:
                        seen.append(event.type)
                        place = event.id
                        if event.type == "job.cancelled":
                            break
            except Exception:
                await asyncio.sleep(0.1)

    following = asyncio.create_task(follow())
    await wait_until(lambda: seen, "the first event is seen")
    own.postgres.kill()
    await own.postgres.start()
    await healed(own)
    await own.api.http.post(f"/v1/jobs/{job_id}/cancel")
    await asyncio.wait_for(following, HANG_S)
    assert seen == ["job.submitted", "job.cancel_requested", "job.cancelled"]
    await wait_until(lambda: own.api.listeners == 0, "nobody listens any more")


async def test_without_the_stream_everything_works_slower(own: Own):
    await own.valkey.stop()
    try:
        job_id = await own.api.submit()
        waiting = asyncio.create_task(own.api.http.get(f"/v1/jobs/{job_id}?wait=20"))

        async def degraded() -> bool:
            answer = await own.api.http.get("/readyz")
            assert answer.status_code == 200
            return answer.json()["checks"]["stream"] == "degraded"

        await wait_until(degraded, "the API says so")
        assert (await own.api.http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 202
        assert (await asyncio.wait_for(waiting, HANG_S)).json()["state"] == "cancelled"
    finally:
        await own.valkey.start()
    await healed(own)


async def test_a_stream_that_hangs_costs_submits_and_watchers_nothing(own: Own):
    """It takes connections and answers nothing: nobody waits for a bell, and who waits for news looks by the clock."""
    own.valkey.send(signal.SIGSTOP)
    try:
        await _unheard(own)
    finally:
        own.valkey.send(signal.SIGCONT)
    await healed(own)


async def _unheard(own: Own) -> None:
    ids = [await own.api.submit() for _ in range(10)]
    seen: list[str] = []

    async def follow() -> None:
        async with own.api.events(f"/v1/events?job={ids[0]}&cursor=0-0") as events:
            async for event in events:
                seen.append(event.type)
                if event.type == "job.cancelled":
                    return

    following = asyncio.create_task(follow())
    waiting = asyncio.create_task(own.api.http.get(f"/v1/jobs/{ids[0]}?wait=20"))
    await wait_until(lambda: seen, "the first event is seen")
    assert (await own.api.http.post(f"/v1/jobs/{ids[0]}/cancel")).status_code == 202
    assert (await asyncio.wait_for(waiting, HANG_S)).json()["state"] == "cancelled"
    await asyncio.wait_for(following, HANG_S)


async def test_a_ledger_that_hangs_is_told_too(own: Own):
    """A stopped server answers nothing and refuses nothing: probes still end."""
    pids = [int(line) for line in Path(own.postgres._files / "postmaster.pid").read_text().splitlines()[:1]]
    backends = [int(p) for pid in pids for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    await own.api.submit()
    for pid in pids + backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        answer = await asyncio.wait_for(own.api.http.get("/readyz"), HANG_S)
        assert answer.status_code == 503
        assert "has not answered" in answer.json()["checks"]["ledger"]
    finally:
        for pid in pids + backends:
            os.kill(pid, signal.SIGCONT)
    await healed(own)
