"""A node cut off from Redis and the API, and a whole machine that stood still: plain jobs begin elsewhere, exclusive
ones wait for proof, and what the old copies say later changes nothing."""

import os
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster, Job, Role
from tests.system.test_fence import FENCE_S, LOST_S, latest, told, uptime, watchdog_of
from windlass.chaos.proxy import DROP, PASS, Proxy

pytestmark = [pytest.mark.docker]

PLAIN = ("process", "docker")
EXCLUSIVE = ("exclusive-process", "exclusive-docker")
BRISK = {"heartbeat_s": 0.3, "self_fence_s": FENCE_S}


async def at_work(cluster: Cluster, **links: object) -> tuple[Role, dict[str, str]]:
    """A worker that runs a job of either kind by either driver, and the jobs' ids by their names. A first attempt shows
    that it runs until the test says that all is over; a later one ends at once."""
    cluster.api()
    cluster.scheduler(node_suspect_s=LOST_S / 2, node_lost_s=LOST_S)
    worker = cluster.worker(links=links, **BRISK)
    await cluster.ready()
    over = cluster.proofs / "over"
    shows = f"[ $WINDLASS_ATTEMPT -gt 1 ] && exit 0\nwhile [ ! -e '{over}' ]; do say tick; sleep 0.1; done"
    specs = [
        cluster.spec(name, shows, driver=name.split("-")[-1], exclusive=name in EXCLUSIVE, max_retries=0, stop_grace=1)
        for name in PLAIN + EXCLUSIVE
    ]
    ids = dict(zip(PLAIN + EXCLUSIVE, cluster.submit_all(specs), strict=True))
    for name, job_id in ids.items():
        await wait_until(lambda name=name: len(cluster.evidence(name)) > 3, "it runs")
        await cluster.state(job_id, "running")
    return worker, ids


async def begun_elsewhere(cluster: Cluster, ids: dict[str, str]) -> None:
    """The plain jobs have run to their end on another node, and the exclusive ones say what they wait for."""
    cluster.worker("n2", **BRISK)
    for job in await cluster.over(*(ids[name] for name in PLAIN)):
        assert outcomes(job) == [("lost", "n1"), ("succeeded", "n2")]
    for name in EXCLUSIVE:
        waiting = await wait_until(lambda name=name: _stranded(cluster.job(ids[name])), "it says what it waits for")
        assert (outcomes(waiting), cluster.starts(name)) == ([("running", "n1")], [1])


def _stranded(job: Job) -> Job | None:
    return job if "waits until the old copy is proven gone" in (job["status"]["reason"] or "") else None


def outcomes(job: Job) -> list[tuple[str, str]]:
    return [(attempt["state"], attempt["node"]) for attempt in job["status"]["attempts"]]


def still(cluster: Cluster, names: Iterable[str]) -> bool:
    """Whether the first copies of these show nothing any more."""
    return all(uptime() - latest(cluster, name) > 1 for name in names)


async def test_a_worker_that_is_cut_off_has_ended_its_jobs_before_others_begin(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Proxy(Path(unquote(urlsplit(cluster.redis_url).path))))
        api = await stack.enter_async_context(Proxy(("127.0.0.1", cluster.port)))
        links = {"redis.url": f"redis://127.0.0.1:{redis.port}/0", "api.url": f"http://127.0.0.1:{api.port}"}
        _, ids = await at_work(cluster, **links)
        for proxy in (redis, api):
            await proxy.change(DROP)
        await begun_elsewhere(cluster, ids)
        assert still(cluster, ids), "the watchdog has ended them all, and only it knows"
        for name in PLAIN:
            began = min(line.at for line in cluster.evidence(name) if line.attempt == 2)
            assert latest(cluster, name) < began, "no two at a time"
        for proxy in (redis, api):
            await proxy.change(PASS)
            proxy.reset()
        jobs = await cluster.over(*ids.values())
        for job in jobs:
            first, second = job["status"]["attempts"]
            assert (first["state"], first["cause"], second["state"]) == ("lost", "node_lost", "succeeded")
        cluster.reconcile(jobs)


async def test_a_machine_that_stood_still_changes_no_outcome_when_it_goes_on(cluster: Cluster) -> None:
    """Agent, watchdog and jobs at once, as a virtual machine that is paused: nobody there can end anything."""
    worker, ids = await at_work(cluster)
    attempts = {cluster.job(job_id)["status"]["attempts"][0]["id"] for job_id in ids.values()}
    stopped = [watchdog_of(cluster), worker.pid, *processes_of(attempts)]
    assert len(stopped) >= 2 + len(ids)
    for pid in stopped:
        with suppress(ProcessLookupError):  # a job's `sleep`, over a moment ago
            os.kill(pid, signal.SIGSTOP)
    await begun_elsewhere(cluster, ids)
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    await wait_until(lambda: told(cluster, [ids[name] for name in PLAIN]), "late reports are recorded")
    await wait_until(lambda: still(cluster, PLAIN), "what was superseded has ended")
    (cluster.proofs / "over").touch()  # for exclusive ones that the node, heard of in time, was let keep
    jobs = await cluster.over(*ids.values())
    assert {job["state"] for job in jobs} == {"succeeded"}
    for name, job in zip(ids, jobs, strict=True):
        tried = job["status"]["attempts"]
        recorded = [event["data"]["attempt"] for event in cluster.events(job["id"]) if "outcome" in event["data"]]
        assert recorded == [attempt["number"] for attempt in tried], "one outcome for each attempt"
        if name in PLAIN:
            assert outcomes(job) == [("lost", "n1"), ("succeeded", "n2")]
            late = [event["data"] for event in cluster.events(job["id"]) if event["type"] == "job.late_report"]
            assert [(one["attempt"], one["node"]) for one in late] == [(1, "n1")]
    cluster.reconcile(job for name, job in zip(ids, jobs, strict=True) if name in EXCLUSIVE)
    await wait_until(lambda: not processes_of(attempts), "nothing of the first copies is left")


def processes_of(attempts: Iterable[str]) -> list[int]:
    """All processes of these attempts, in containers or not."""
    marks = [f"WINDLASS_ATTEMPT_ID={attempt}".encode() for attempt in attempts]
    found: list[int] = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            given = environ.read_bytes().split(b"\0")
            if any(mark in given for mark in marks):
                found.append(int(environ.parent.name))
    return found
