"""A node that is cut off: what runs there is ended by its watchdog before it may run elsewhere."""

import os
import signal
from pathlib import Path

import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster, Role
from windlass.watchdog.procfs import running
from windlass.watchdog.protocol import LOCK

pytestmark = [pytest.mark.docker]

FENCE_S, LOST_S = 2.0, 4.0
#: The first attempt shows for ever that it runs; the second ends at once.
SHOWS = "[ $WINDLASS_ATTEMPT -gt 1 ] && exit 0\nwhile :; do say tick; sleep 0.1; done"
BOTH = ("process", "docker")


def watchdog_of(cluster: Cluster, node: str = "n1") -> int:
    return int((cluster.folder / node / LOCK).read_text())


async def at_work(cluster: Cluster, fence_s: float = FENCE_S, **more: float) -> tuple[Role, list[str]]:
    """A worker that runs a job of either kind."""
    cluster.api()
    cluster.scheduler(node_suspect_s=LOST_S / 2, **{"node_lost_s": LOST_S} | more)
    worker = cluster.worker(heartbeat_s=0.3, self_fence_s=fence_s)
    await cluster.ready()
    ids = cluster.submit_all([cluster.spec(kind, SHOWS, driver=kind, max_retries=0, stop_grace=1) for kind in BOTH])
    for kind in BOTH:
        await wait_until(lambda kind=kind: len(cluster.evidence(kind)) > 3, "it runs")
    return worker, ids


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def latest(cluster: Cluster, kind: str, attempt: int = 1) -> float:
    """When this attempt last showed that it ran."""
    return max(line.at for line in cluster.evidence(kind) if line.attempt == attempt)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_the_old_copy_is_ended_before_the_new_one_begins(cluster: Cluster, fault: str) -> None:
    worker, ids = await at_work(cluster)
    dog = watchdog_of(cluster)
    getattr(worker, fault)()
    since = uptime()
    cluster.worker("n2")
    jobs = await cluster.over(*ids)
    for kind, job in zip(BOTH, jobs, strict=True):
        first, second = job["status"]["attempts"]
        assert (first["state"], first["cause"], first["node"]) == ("lost", "node_lost", "n1")
        assert (second["state"], second["node"], job["status"]["infra_losses"]) == ("succeeded", "n2", 1)
        assert latest(cluster, kind) < since + FENCE_S + 3
        began = min(line.at for line in cluster.evidence(kind) if line.attempt == 2)
        assert latest(cluster, kind) < began, "no two at a time"
    if fault == "kill":
        await wait_until(lambda: not running(dog), "the watchdog has nothing left to do, and goes")
    else:
        worker.thaw()
        await wait_until(lambda: len(cluster.nodes("ready")) == 2, "it is back")
        await wait_until(lambda: told(cluster, ids), "its late reports are recorded")
    after = cluster.jobs()
    assert [[a["state"] for a in job["status"]["attempts"]] for job in after] == [["lost", "succeeded"]] * 2
    cluster.reconcile(after)


def told(cluster: Cluster, ids: list[str]) -> bool:
    """Whether what came too late is noted."""
    return all(any(event["type"] == "job.late_report" for event in cluster.events(job_id)) for job_id in ids)


async def test_a_worker_that_was_frozen_says_what_its_watchdog_did(cluster: Cluster) -> None:
    """The leader never missed it for long enough: the worker itself tells, and not of a signal."""
    worker, ids = await at_work(cluster, node_lost_s=60.0)
    worker.freeze()
    for kind in BOTH:
        await wait_until(lambda kind=kind: uptime() - latest(cluster, kind) > 1, "it shows nothing any more")
    worker.thaw()
    for job in await cluster.over(*ids):
        first, second = job["status"]["attempts"]
        assert (first["state"], first["cause"]) == ("lost", "node_lost")
        assert "ended by the watchdog" in first["message"]
        assert (second["state"], second["node"]) == ("succeeded", "n1")
    cluster.reconcile(cluster.jobs())


async def test_worker_and_watchdog_frozen_together_go_on_after_the_thaw(cluster: Cluster) -> None:
    worker, ids = await at_work(cluster, node_lost_s=60.0)
    dog = watchdog_of(cluster)
    os.kill(dog, signal.SIGSTOP)
    worker.freeze()
    frozen = uptime()
    await wait_until(lambda: uptime() - frozen > FENCE_S + 1, "longer than the fence")
    os.kill(dog, signal.SIGCONT)
    worker.thaw()
    await wait_until(lambda: bool(cluster.nodes("ready")), "the node is there")
    for kind, job_id in zip(BOTH, ids, strict=True):  # ended or not, as it came: but one outcome, and it still works
        if cluster.starts(kind) == [1]:
            cluster.http.post(f"/v1/jobs/{job_id}/cancel")
    jobs = await cluster.over(*ids)
    assert all(job["state"] in ("succeeded", "cancelled") for job in jobs)
    assert all(
        attempt["cause"] in (None, "node_lost", "cancelled") for job in jobs for attempt in job["status"]["attempts"]
    )
    cluster.reconcile(jobs)


async def test_a_worker_that_comes_back_in_time_finds_its_jobs_running(cluster: Cluster) -> None:
    worker, ids = await at_work(cluster, fence_s=10.0, node_lost_s=30.0)
    worker.kill()
    worker.start()
    await wait_until(lambda: worker.said().count('"adopted"') == 2, "both are adopted")
    began = uptime()
    for kind in BOTH:
        await wait_until(lambda kind=kind: latest(cluster, kind) > began + 1, "it goes on")
        assert cluster.starts(kind) == [1]
    for job_id in ids:
        cluster.http.post(f"/v1/jobs/{job_id}/cancel")
    assert [job["state"] for job in await cluster.over(*ids)] == ["cancelled"] * 2
    cluster.reconcile(cluster.jobs())
