"""Workers go: killed for good, cut off for a moment, told to end, drained; and what that does to their jobs."""

import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support import wait_until
from tests.system.cluster import Cluster, Job
from windlass.chaos.proxy import HOLD, PASS, Proxy

#: A node is lost after three seconds of silence here, and its watchdog ends what runs there before.
HASTY = {"node_suspect_s": 1.2, "node_lost_s": 3}
BRISK: dict[str, Any] = {"heartbeat_s": 0.3, "self_fence_s": 2}


def ticking(cluster: Cluster, name: str, ticks: int, **fields: Any) -> dict[str, Any]:
    """A job that writes a line ten times a second, so that its evidence tells from when to when it ran."""
    script = f"n=0; while [ $n -lt {ticks} ]; do say tick; sleep 0.1; n=$((n + 1)); done"
    return cluster.spec(name, script, **fields)


def lives(cluster: Cluster, name: str) -> dict[int, tuple[float, float, str]]:
    """Of each attempt the first and the last sign of life, and its node."""
    found: dict[int, tuple[float, float, str]] = {}
    for line in cluster.evidence(name):
        first, _, _ = found.get(line.attempt, (line.at, 0.0, ""))
        found[line.attempt] = (first, line.at, line.node)
    return found


def charged(job: Job) -> tuple[int, int]:
    return job["status"]["retries"], job["status"]["infra_losses"]


def node(cluster: Cluster, name: str) -> Job:
    return next(one for one in cluster.nodes() if one["name"] == name)


async def two_workers(cluster: Cluster, **settings: Any) -> dict[str, Any]:
    cluster.api()
    cluster.scheduler(**HASTY)
    workers = {name: cluster.worker(name, **BRISK | settings) for name in ("n1", "n2")}
    await cluster.ready(2)
    return workers


async def started(cluster: Cluster, name: str) -> str:
    """The name of the node this job's first attempt runs on."""
    await wait_until(lambda: len(cluster.evidence(name)) > 2, f"{name} runs")
    ids = {one["id"]: one["name"] for one in cluster.nodes()}
    return ids[cluster.evidence(name)[0].node]


async def test_a_worker_that_never_comes_back_is_replaced_and_its_copies_end_first(cluster: Cluster) -> None:
    workers = await two_workers(cluster)
    plain, alone = cluster.submit_all(
        [ticking(cluster, "plain", 40), ticking(cluster, "alone", 40, exclusive=True, priority=1)]
    )
    where = await started(cluster, "alone")
    assert await started(cluster, "plain") == where, "both are packed on one node"
    workers[where].kill()
    (job,) = await cluster.over(plain)
    assert (job["state"], charged(job)) == ("succeeded", (0, 1))
    seen = lives(cluster, "plain")
    assert seen[1][1] < seen[2][0], "the old copy had ended before the new one began"
    kept = await cluster.state(alone, "running")
    assert len(kept["status"]["attempts"]) == 1
    assert f"windlass forget {where}" in kept["status"]["reason"]
    assert f"its node {where} is lost; exclusive" in cluster.cli("why", alone).stdout
    assert cluster.cli("forget", where).returncode == 0
    (job,) = await cluster.over(alone)
    assert (job["state"], charged(job)) == ("succeeded", (0, 1))
    seen = lives(cluster, "alone")
    assert seen[1][1] < seen[2][0]
    assert [one["name"] for one in cluster.nodes()] == [name for name in workers if name != where]


async def test_a_partition_of_five_seconds_changes_nothing(cluster: Cluster) -> None:
    """With the settings as they come."""
    cluster.api()
    cluster.scheduler()
    async with AsyncExitStack() as stack:
        socket = Path(unquote(urlsplit(cluster.redis_url).path))
        redis = await stack.enter_async_context(Proxy(socket))
        api = await stack.enter_async_context(Proxy(("127.0.0.1", cluster.port)))
        cluster.worker(
            links={"redis.url": f"redis://127.0.0.1:{redis.port}/0", "api.url": f"http://127.0.0.1:{api.port}"}
        )
        await cluster.ready()
        job_id = cluster.submit(ticking(cluster, "cut", 70))
        await started(cluster, "cut")
        for proxy in (redis, api):
            await proxy.change(HOLD)
        cut = time.monotonic()
        await wait_until(lambda: time.monotonic() - cut > 5, "five seconds have passed")
        for proxy in (redis, api):
            await proxy.change(PASS)
        (job,) = await cluster.over(job_id)
        assert (job["state"], charged(job), cluster.starts("cut")) == ("succeeded", (0, 0), [1])
        assert len(cluster.evidence("cut")) == 72


async def test_a_worker_told_to_end_lets_its_jobs_end_first(cluster: Cluster) -> None:
    workers = await two_workers(cluster, on_exit="drain", drain_deadline_s=60)
    job_id = cluster.submit(ticking(cluster, "last", 20))
    where = await started(cluster, "last")
    workers[where].process.send_signal(signal.SIGTERM)
    await wait_until(lambda: node(cluster, where)["draining"], "it drains")
    second = cluster.submit(cluster.spec("second"))
    jobs = await cluster.over(job_id, second)
    assert [(job["state"], charged(job), len(job["status"]["attempts"])) for job in jobs] == [
        ("succeeded", (0, 0), 1)
    ] * 2
    assert jobs[1]["status"]["attempts"][0]["node"] != where
    await wait_until(lambda: workers[where].code is not None, "it has ended")
    assert workers[where].code == 0
    await wait_until(lambda: node(cluster, where)["state"] == "lost", "it is known to be gone")
    workers[where].start()
    await wait_until(lambda: node(cluster, where)["state"] == "ready", "it is back")
    assert not node(cluster, where)["draining"]
    cluster.reconcile(jobs)


async def test_what_still_runs_at_the_deadline_runs_elsewhere_free_of_charge(cluster: Cluster) -> None:
    """Of a worker that ends, then of one that an operator drains; with no retries and no losses to give away."""
    workers = await two_workers(cluster, on_exit="drain", drain_deadline_s=0.5)
    job_id = cluster.submit(ticking(cluster, "moved", 60, max_retries=0, max_infra_losses=0, stop_grace=1))
    where = await started(cluster, "moved")
    workers[where].process.send_signal(signal.SIGTERM)
    await wait_until(lambda: cluster.starts("moved") == [1, 2], "it runs elsewhere")
    await wait_until(lambda: workers[where].code is not None, "the worker has ended")
    workers[where].start()
    await cluster.ready(2)
    other = next(name for name in workers if name != where)
    drained = cluster.cli("drain", other, "--deadline", "0", "-o", "json")
    assert drained.returncode == 0, drained.stderr
    assert cluster.cli("nodes").stdout.count("ready,draining") == 1
    (job,) = await cluster.over(job_id)
    assert (job["state"], charged(job)) == ("succeeded", (0, 0))
    tried = [(attempt["node"], attempt["cause"]) for attempt in job["status"]["attempts"]]
    assert tried == [(where, "drained"), (other, "drained"), (where, None)]
    seen = lives(cluster, "moved")
    assert seen[1][1] < seen[2][0]
    assert seen[2][1] < seen[3][0]
    assert cluster.cli("uncordon", other).returncode == 0
    assert len(cluster.nodes("ready")) == 2
    assert not node(cluster, other)["draining"]
    cluster.reconcile([job])
