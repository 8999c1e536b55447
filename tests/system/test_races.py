"""Users change their minds at any moment: 500 jobs are cancelled, deleted, or both, while they wait, run and end."""

import asyncio
import random

import httpx2
import psycopg

from tests.support import HANG_S, wait_until
from tests.system.cluster import Cluster

JOBS, USERS = 500, 8
#: What belongs to a job, and goes with it.
LEFT = (
    "SELECT count(*) FROM jobs WHERE id = ANY(%(deleted)s)",
    "SELECT count(*) FROM tasks WHERE job_id = ANY(%(deleted)s)",
    "SELECT count(*) FROM attempts WHERE task_id NOT IN (SELECT id FROM tasks)",
    "SELECT count(*) FROM events WHERE job_id = ANY(%(deleted)s) AND type <> 'job.deleted'",
    "SELECT count(*) FROM log_chunks WHERE attempt_id NOT IN (SELECT id FROM attempts)",
)


async def test_500_jobs_are_cancelled_and_deleted_while_they_end(cluster: Cluster) -> None:
    cluster.api()
    cluster.scheduler()
    cluster.worker()
    await cluster.ready()
    draw = random.Random(JOBS)
    names = [f"race{n}" for n in range(JOBS)]
    ids = cluster.submit_all([cluster.spec(name, draw.choice(("true", "exit 3", "sleep 0.3"))) for name in names])
    wishes = {job_id: draw.choice(("cancel", "delete", "both")) for job_id in ids}
    waiting, refused = draw.sample(ids, JOBS), 0
    async with httpx2.AsyncClient(base_url=cluster.url, timeout=HANG_S) as http:

        async def delete(job_id: str) -> bool:
            """Whether it is gone; one that is not over is kept, and says so."""
            nonlocal refused
            answer = await http.delete(f"/v1/jobs/{job_id}")
            assert answer.status_code in (204, 409), answer.text
            refused += answer.status_code == 409
            return answer.status_code == 204

        async def user() -> None:
            while waiting:
                job_id = waiting.pop()
                if wishes[job_id] != "delete":
                    answer = await http.post(f"/v1/jobs/{job_id}/cancel")
                    assert answer.status_code == 202, answer.text
                if wishes[job_id] != "cancel":
                    await wait_until(lambda job_id=job_id: delete(job_id), "it is over, and deleted")

        await asyncio.gather(*(user() for _ in range(USERS)))
    kept = await cluster.over(*[job_id for job_id in ids if wishes[job_id] == "cancel"])
    cluster.reconcile(kept)
    assert len({job["state"] for job in kept}) == 3, "some were cancelled in time, some had succeeded, some failed"
    assert refused > 0, "some were to be deleted while they ran"
    deleted = [job_id for job_id in ids if wishes[job_id] != "cancel"]
    for name in names:
        began = cluster.starts(name)
        assert began == sorted(set(began)), name
    with psycopg.connect(cluster.database_url) as ledger:
        left = [ledger.execute(query, {"deleted": deleted}).fetchone() for query in LEFT]
    assert left == [(0,)] * len(LEFT)
