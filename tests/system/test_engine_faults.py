"""The Docker Engine dies under running jobs, or hangs: no user's retry is charged, and the node is back by itself."""

import signal
import time

import pytest

from tests.conftest import Servers
from tests.engine import own_engine
from tests.images import busybox_image
from tests.support import wait_until
from tests.system.cluster import Cluster
from tests.system.test_outages import all_ran_once
from windlass.chaos.proxy import HOLD, PASS, Proxy
from windlass.driver import taken_down

pytestmark = [pytest.mark.docker]


def drivers(cluster: Cluster) -> list[str]:
    """What the one node offers."""
    return sorted(cluster.nodes()[0]["drivers"])


@pytest.mark.parametrize("lives_on", [False, True], ids=["containers die", "live-restore"])
async def test_the_engine_is_killed_and_started_again(cluster: Cluster, lives_on: bool) -> None:
    options = ["--live-restore"] if lives_on else []
    with own_engine(*options) as engine:
        busybox_image(engine.url)
        cluster.api()
        cluster.scheduler()
        cluster.worker(docker_url=engine.url)
        await cluster.ready()
        long = {"driver": "docker", "max_retries": 0}
        script = f"until [ -e '{cluster.proofs}/over' ]; do sleep 0.1; done; exit 4"
        ids = cluster.submit_all([cluster.spec(f"long{n}", script, **long) for n in range(3)])
        ids.append(cluster.submit(cluster.spec("process", "sleep 5")))
        names = ["long0", "long1", "long2", "process"]
        await wait_until(lambda: all(cluster.starts(name) for name in names), "all run")
        if lives_on:  # an engine killed before it noted a start does not know of it
            for job_id in ids:
                await cluster.state(job_id, "running")
        engine.end(signal.SIGKILL)
        engine.start(*options)
        await wait_until(engine.answers, "the engine is up")
        up = time.monotonic()
        fresh = cluster.submit(cluster.spec("fresh", driver="docker", max_retries=0))
        (after,) = await cluster.over(fresh)
        # An end next to an outage is laid to that; this one is to be the job's own.
        await wait_until(lambda: time.monotonic() - up > 2 * taken_down.SLACK_S, "the outage is long over")
        (cluster.proofs / "over").touch()
        jobs = await cluster.over(*ids)
    all_ran_once(cluster, [after, jobs[-1]])
    for job in jobs[:-1]:
        tried = job["status"]["attempts"]
        assert (job["status"]["retries"], tried[-1]["exit_code"]) == (0, 4), job
        assert {attempt["cause"] for attempt in tried[:-1]} <= {"node_lost"}, job
        if lives_on:
            assert len(tried) == 1, "what survived is kept"
    cluster.reconcile(jobs)


@pytest.mark.parametrize("fault", ["killed", "power cut"])
async def test_the_engine_is_started_again_while_its_worker_is_away(cluster: Cluster, fault: str) -> None:
    with own_engine() as engine:
        busybox_image(engine.url)
        cluster.api()
        cluster.scheduler()
        worker = cluster.worker(docker_url=engine.url)
        await cluster.ready()
        script = "[ $WINDLASS_ATTEMPT -gt 1 ] && exit 0; while :; do sleep 0.1; done"
        job_id = cluster.submit(cluster.spec("long", script, driver="docker", max_retries=0))
        await wait_until(lambda: cluster.starts("long") == [1], "it runs")
        await cluster.state(job_id, "running")  # an engine killed before it noted a start does not know of it
        worker.kill()
        if fault == "killed":
            engine.end(signal.SIGKILL)
        else:
            engine.cut_power()
        engine.start()
        await wait_until(engine.answers, "the engine is up")
        worker.start()
        (job,) = await cluster.over(job_id)
    assert (job["state"], job["status"]["retries"], job["status"]["infra_losses"]) == ("succeeded", 0, 1)
    first, second = job["status"]["attempts"]
    assert (first["state"], first["cause"], second["state"]) == ("lost", "node_lost", "succeeded")
    cluster.reconcile([job])


async def test_an_engine_that_hangs(cluster: Cluster, servers: Servers) -> None:
    """Its driver is withdrawn; the node beats on and runs processes; it all comes back."""
    with own_engine() as engine:
        busybox_image(engine.url)
        front = engine.folder / "front.sock"
        proxy = Proxy(engine.folder / "d.sock", listen=front)
        with servers.portal.wrap_async_context_manager(proxy):
            cluster.api()
            cluster.scheduler(node_suspect_s=3, node_lost_s=6)
            cluster.worker(docker_url=f"unix://{front}", heartbeat_s=0.5)
            await cluster.ready()
            running = cluster.submit(cluster.spec("running", "sleep 4", driver="docker"))
            await wait_until(lambda: cluster.starts("running"), "it runs")
            servers.portal.call(proxy.change, HOLD)
            await wait_until(lambda: drivers(cluster) == ["process"], "the driver is withdrawn")
            waits = cluster.submit(cluster.spec("waits", driver="docker"))
            beside = cluster.submit(cluster.spec("beside"))
            all_ran_once(cluster, await cluster.over(beside))
            assert cluster.nodes()[0]["state"] == "ready"
            servers.portal.call(proxy.change, PASS)
            await wait_until(lambda: drivers(cluster) == ["docker", "process"], "the driver is back")
            all_ran_once(cluster, await cluster.over(running, waits))
