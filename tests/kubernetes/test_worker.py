"""A whole cluster whose worker runs jobs as Pods: submit, retry, adopt, cut off; with the rights the page gives it."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.images import busybox_image, docker_missing
from tests.kubernetes.standin import trouble
from tests.kubernetes.standin.server import Cluster as Kubernetes
from tests.support import wait_until
from tests.system.cluster import Cluster, Role
from windlass.chaos.proxy import HOLD, Proxy

pytestmark = [pytest.mark.docker]

#: A node is lost after a few seconds of silence here, and ends what runs there before.
HASTY: dict[str, Any] = {"node_suspect_s": 1.2, "node_lost_s": 3}
BRISK: dict[str, Any] = {"heartbeat_s": 0.3, "self_fence_s": 2}
PAGE = Path(__file__).parents[2] / "docs/how-to/kubernetes-engine.md"


@pytest.fixture
def kubernetes() -> Iterator[Kubernetes]:
    if why := docker_missing():
        pytest.skip(why)
    with Kubernetes() as made:
        yield made
        assert made.rights <= the_role()


def the_role() -> set[tuple[str, str]]:
    """What the page gives the worker's account a right to, by verb and resource."""
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S) if "kind: Role\n" in block)
    role = next(one for one in yaml.safe_load_all(text) if one["kind"] == "Role")
    return {(verb, what) for rule in role["rules"] for what in rule["resources"] for verb in rule["verbs"]}


def begin(cluster: Cluster, kubernetes: Kubernetes, **settings: Any) -> Role:
    """The roles; the worker, of which there may be more."""
    cluster.api(container_driver="kubernetes")
    cluster.scheduler()
    return worker(cluster, kubernetes, **settings)


def worker(cluster: Cluster, kubernetes: Kubernetes, name: str = "pods", **settings: Any) -> Role:
    token = cluster.folder / "kubernetes-token"
    token.write_text(kubernetes.token)
    where = {"kubernetes_url": kubernetes.url, "kubernetes_namespace": "jobs", "kubernetes_token_file": token}
    return cluster.worker(name, drivers="kubernetes", allow_process="false", **where, **settings)


def a_job(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": busybox_image(),
        "command": ["sh", "-c", script],
        "resources": {"cpu": 0.1, "memory": "32Mi"},
        "backoff": {"initial": 0.05, "jitter": 0},
        "stop_grace": 1,
    } | fields


def attempt(cluster: Cluster, job_id: str) -> dict[str, Any]:
    """The first, as the ledger knows it."""
    return cluster.job(job_id)["status"]["attempts"][0]


async def the_pod(kubernetes: Kubernetes, job_id: str, number: int = 1) -> str:
    """The name of the Pod of this attempt, once it runs."""

    def look() -> str | None:
        for name, pod in list(kubernetes.store.pods.items()):
            labels = pod["metadata"]["labels"]
            ours = labels["windlass.job"] == job_id and labels["windlass.number"] == str(number)
            if ours and pod["status"]["phase"] == "Running":
                return name
        return None

    found = await wait_until(look, f"attempt {number} of {job_id} runs as a Pod")
    assert found is not None
    return found


async def test_jobs_run_as_pods_within_the_quota_and_leave_nothing(cluster: Cluster, kubernetes: Kubernetes) -> None:
    kubernetes.quotas["jobs"] = {"requests.cpu": "250m", "limits.memory": "1Gi", "pods": "10"}
    begin(cluster, kubernetes)
    await cluster.ready()
    (node,) = cluster.nodes("ready")
    assert node["capacity"] == {"cpu": 0.25, "memory": 2**30}
    ids = [cluster.submit(a_job(f"good-{n}", f"echo out {n}; echo err {n} >&2; sleep 0.5")) for n in range(5)]
    bad = cluster.submit(a_job("bad", "exit 7", max_retries=1))
    missing = cluster.submit(a_job("missing", "true", image="127.0.0.1:9/no/such:1", max_retries=0))
    *good, failed, unpulled = await cluster.over(*ids, bad, missing)
    assert {job["state"] for job in good} == {"succeeded"}
    assert [cluster.log(job_id, stream="stdout") for job_id in ids] == [b"out %d\n" % n for n in range(5)]
    assert [a["exit_code"] for a in failed["status"]["attempts"]] == [7, 7]
    assert unpulled["status"]["attempts"][-1]["cause"] == "image_pull"
    await wait_until(lambda: not kubernetes.store.pods, "no Pod is left")


async def test_an_evicted_pod_costs_no_retry(cluster: Cluster, kubernetes: Kubernetes) -> None:
    begin(cluster, kubernetes)
    await cluster.ready()
    job_id = cluster.submit(a_job("evicted", "test $WINDLASS_ATTEMPT = 2 || sleep 60", max_retries=0))
    pod = await the_pod(kubernetes, job_id)
    await asyncio.to_thread(trouble.press, kubernetes, pod)
    (job,) = await cluster.over(job_id)
    first, second = job["status"]["attempts"]
    assert (first["cause"], second["state"], job["state"]) == ("node_lost", "succeeded", "succeeded")
    assert "low on resource: memory" in first["message"]


async def test_a_killed_worker_takes_its_pods_up_again(cluster: Cluster, kubernetes: Kubernetes) -> None:
    agent = begin(cluster, kubernetes)
    await cluster.ready()
    script = "for n in $(seq 60); do echo line $n; sleep 0.1; done; exit 4"
    job_id = cluster.submit(a_job("adopted", script, max_retries=0))
    await the_pod(kubernetes, job_id)
    await wait_until(lambda: b"line 5\n" in cluster.log(job_id), "output comes")
    agent.kill()
    agent.start()
    (job,) = await cluster.over(job_id)
    assert [a["exit_code"] for a in job["status"]["attempts"]] == [4]
    assert cluster.log(job_id) == b"".join(b"line %d\n" % n for n in range(1, 61))


async def test_a_worker_that_is_killed_for_good_leaves_no_second_copy(cluster: Cluster, kubernetes: Kubernetes) -> None:
    cluster.api(container_driver="kubernetes")
    cluster.scheduler(**HASTY)
    workers = {name: worker(cluster, kubernetes, name, **BRISK) for name in ("k1", "k2")}
    await cluster.ready(2)
    job_id = cluster.submit(a_job("left", "test $WINDLASS_ATTEMPT = 2 || exec sleep 60", max_retries=0))
    pod = await the_pod(kubernetes, job_id)
    log = kubernetes.kubelet.pods[pod].log
    workers[cluster.job(job_id)["status"]["attempts"][0]["node"]].kill()
    (job,) = await cluster.over(job_id)
    assert [one["cause"] for one in job["status"]["attempts"]] == ["node_lost", None]
    await wait_until(lambda: log.closed, "the Pod it left behind has ended")


async def test_a_worker_that_is_cut_off_ends_its_pods_before_others_begin(
    cluster: Cluster, kubernetes: Kubernetes
) -> None:
    cluster.api(container_driver="kubernetes")
    cluster.scheduler(node_suspect_s=2, node_lost_s=8)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Proxy(Path(unquote(urlsplit(cluster.redis_url).path))))
        api = await stack.enter_async_context(Proxy(("127.0.0.1", cluster.port)))
        links = {"redis.url": f"redis://127.0.0.1:{redis.port}/0", "api.url": f"http://127.0.0.1:{api.port}"}
        worker(cluster, kubernetes, "k1", links=links, **BRISK)
        await cluster.ready()
        job_id = cluster.submit(a_job("cut-off", "trap '' TERM; sleep 60", max_retries=0, stop_grace=30))
        pod = await the_pod(kubernetes, job_id)
        await wait_until(lambda: attempt(cluster, job_id)["state"] == "running", "the ledger knows that it runs")
        log = kubernetes.kubelet.pods[pod].log
        for proxy in (redis, api):
            await proxy.change(HOLD)
        await wait_until(lambda: log.closed, "its Pod has ended")
        assert attempt(cluster, job_id)["state"] == "running", "before its node is lost"
        cluster.cli("cancel", job_id)
