"""Time limits, each kept by the worker, and by the scheduler where the worker does not move."""

import socket

import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster

BESIDE = ("docker", "process")
BOTH = pytest.mark.parametrize("driver", ["process", pytest.param("docker", marks=pytest.mark.docker)])


@BOTH
async def test_attempt_timeout_ends_each_attempt_and_costs_a_retry(calm: Cluster, driver: str) -> None:
    name = f"too-long-{driver}"
    spec = calm.spec(name, "sleep 60", driver=driver, attempt_timeout=3, max_retries=1)
    (job,) = await calm.over(calm.submit(spec))
    assert (job["state"], job["status"]["retries"], calm.starts(name)) == ("failed", 1, [1, 2])
    for attempt in job["status"]["attempts"]:
        assert (attempt["state"], attempt["cause"], attempt["exit_code"]) == ("failed", "timeout", 143)
        assert attempt["message"] == "attempt_timeout of 3 s passed"
    calm.reconcile([job])


async def test_job_deadline_ends_a_running_job_for_good_and_the_wait_between_attempts(calm: Cluster) -> None:
    backoff = {"initial": 600, "max": 600}
    running = calm.submit(calm.spec("late", "sleep 60", job_deadline=10))
    pausing = calm.submit(calm.spec("pausing", "exit 1", job_deadline=10, backoff=backoff))
    late, paused = await calm.over(running, pausing)
    (attempt,) = late["status"]["attempts"]
    assert (late["state"], attempt["cause"], attempt["message"]) == ("failed", "timeout", "job_deadline of 10 s passed")
    assert (paused["state"], calm.starts("late"), calm.starts("pausing")) == ("failed", [1], [1])
    assert paused["status"]["reason"] == "timeout: job_deadline of 10 s passed while it waited"
    calm.reconcile([late, paused])


async def test_queue_timeout_ends_the_wait_for_room(cluster: Cluster) -> None:
    cluster.api()
    cluster.scheduler()
    cluster.worker(cpu=1, drivers="process")
    await cluster.ready()
    holder = cluster.submit(cluster.spec("holder", "sleep 60", resources={"cpu": 1}))
    await cluster.state(holder, "running")
    (job,) = await cluster.over(cluster.submit(cluster.spec("impatient", resources={"cpu": 1}, queue_timeout=1)))
    assert (job["state"], job["status"]["attempts"], cluster.evidence("impatient")) == ("failed", [], [])
    assert job["status"]["reason"] == "timeout: queue_timeout of 1 s passed while it waited"
    assert cluster.job(holder)["state"] == "running"
    cluster.http.post(f"/v1/jobs/{holder}/cancel")
    await cluster.over(holder)


@pytest.mark.docker
async def test_start_timeout_ends_a_pull_that_never_ends(calm: Cluster) -> None:
    with socket.socket() as silent:  # takes the connection and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        image = f"127.0.0.1:{silent.getsockname()[1]}/windlass-test/never:1"
        spec = calm.spec("never-pulled", driver="docker", start_timeout=1.5, max_retries=0) | {"image": image}
        (job,) = await calm.over(calm.submit(spec))
    (attempt,) = job["status"]["attempts"]
    assert (job["state"], attempt["cause"], attempt["started_at"]) == ("failed", "timeout", None)
    assert attempt["message"] == "start_timeout of 1.5 s passed"


async def test_the_scheduler_keeps_the_limits_of_a_worker_that_hangs(cluster: Cluster) -> None:
    cluster.api()
    cluster.scheduler(node_suspect_s=60, node_lost_s=120)
    worker = cluster.worker(drivers="process", self_fence_s=60, links={"scheduler.node_lost_s": 120})
    await cluster.ready()
    running = {
        "attempt_timeout": cluster.submit(cluster.spec("a", "sleep 60", attempt_timeout=10, max_retries=0)),
        "job_deadline": cluster.submit(cluster.spec("j", "sleep 60", job_deadline=10)),
    }
    for name in ("a", "j"):
        await wait_until(lambda n=name: cluster.starts(n) == [1], "it runs")
    await wait_until(
        lambda: all(cluster.job(i)["status"]["attempts"][0]["started_at"] for i in running.values()), "it is told"
    )
    worker.freeze()
    stuck = running | {"start_timeout": cluster.submit(cluster.spec("s", "sleep 60", start_timeout=0.5, max_retries=0))}
    for limit, job_id in stuck.items():
        job = await cluster.state(job_id, "stopping")
        told = [event["data"]["message"] for event in cluster.events(job_id) if event["type"] == "job.stopping"]
        assert told == [f"{limit} of {job['spec'][limit]:g} s passed (enforced by the scheduler)"]
    worker.thaw()
    for limit, job in zip(stuck, await cluster.over(*stuck.values()), strict=True):
        (attempt,) = job["status"]["attempts"]
        assert (job["state"], attempt["state"], attempt["cause"]) == ("failed", "failed", "timeout"), limit
    # The launch of the last one may have reached the worker before the order to stop it did.
    cluster.reconcile([cluster.job(job_id) for job_id in stuck.values()])


async def test_a_node_that_falls_silent_loses_its_jobs_to_another(cluster: Cluster) -> None:
    cluster.api()
    cluster.scheduler(node_suspect_s=4, node_lost_s=10)
    first = cluster.worker("n1", drivers="process", heartbeat_s=0.5)
    await cluster.ready()
    script = "[ $WINDLASS_ATTEMPT -gt 1 ] || sleep 60"
    job_id = cluster.submit(cluster.spec("moved", script, max_retries=0))
    await wait_until(lambda: cluster.starts("moved") == [1], "it runs")
    # Only a leader that has heard the stream for as long as a node may be silent judges.
    first.freeze()
    cluster.worker("n2", drivers="process", heartbeat_s=0.5)
    (job,) = await cluster.over(job_id)
    lost, done = job["status"]["attempts"]
    assert (lost["node"], lost["state"], lost["cause"]) == ("n1", "lost", "node_lost")
    assert (done["node"], done["state"], job["status"]["infra_losses"]) == ("n2", "succeeded", 1)
    first.thaw()
    await cluster.ready(2)
    await wait_until(lambda: _last_child_gone(first.pid), "the copy that was given up is ended")
    assert cluster.starts("moved") == [1, 2]
    cluster.reconcile([cluster.job(job_id)])


def _last_child_gone(pid: int) -> bool:
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return not children.read().split()


@pytest.mark.docker
async def test_a_fork_bomb_hurts_nobody_beside_it(calm: Cluster) -> None:
    """It has its own count of processes, with memory enough for all of them, and its own share of the processor."""
    bomb = calm.submit(
        calm.spec(
            "bomb",
            "sleep 600 & b() { while :; do b & done; }; b & wait",
            driver="docker",
            resources={"cpu": 0.1, "memory": "2Gi"},
            max_retries=0,
            stop_grace=0,
        )
    )
    await calm.state(bomb, "running")
    beside = calm.submit_all([calm.spec(f"beside{n}-{driver}", driver=driver) for driver in BESIDE for n in range(5)])
    jobs = await calm.over(*beside)
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert all(len(job["status"]["attempts"]) == 1 for job in jobs)
    calm.reconcile(jobs)
    assert calm.job(bomb)["state"] == "running", "it was there all the time"
    calm.http.post(f"/v1/jobs/{bomb}/cancel")
    (job,) = await calm.over(bomb)
    assert [attempt["cause"] for attempt in job["status"]["attempts"]] == ["cancelled"]
    assert {node["state"] for node in calm.nodes()} == {"ready"}
