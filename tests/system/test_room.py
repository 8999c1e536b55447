"""Where jobs go: never more than a node has, in order, the big one in its turn, and the reason in numbers."""

import itertools
import random

from tests.support import wait_until
from tests.system.cluster import Cluster, Job

MIB = 2**20


async def test_300_mixed_jobs_never_take_more_than_a_node_has(cluster: Cluster) -> None:
    cluster.api()
    cluster.scheduler()
    capacity = {"n1": (3.0, 2048), "n2": (1.5, 1024)}
    for name, (cpu, memory) in capacity.items():
        cluster.worker(name, cpu=cpu, memory=f"{memory}Mi", drivers="process")
    await cluster.ready(2)
    dice = random.Random(5)
    needs = {
        f"j{n}": (dice.choice([0.25, 0.5, 1, 1.5]), dice.choice([64, 128, 256, 512, 1024]), dice.uniform(0.02, 0.15))
        for n in range(300)
    }
    cluster.submit_all(
        [
            cluster.spec(
                name, f"sleep {run:.2f}", resources={"cpu": cpu, "memory": f"{memory}Mi"}, priority=dice.randint(0, 2)
            )
            for name, (cpu, memory, run) in needs.items()
        ]
    )
    full = 0

    def over() -> list[Job] | None:
        nonlocal full
        for node in cluster.nodes():
            cpu, memory = capacity[node["name"]]
            assert node["used"]["cpu"] <= cpu
            assert node["used"]["memory"] <= memory * MIB
            full += node["free"]["cpu"] < 0.25
        jobs = cluster.jobs()
        return jobs if all(job["state"] == "succeeded" for job in jobs) else None

    jobs = await wait_until(over, "all have run")
    assert jobs is not None
    assert len(jobs) == 300
    assert full > 5  # there were moments with no room left, so there was something to get wrong
    by_node = {node["id"]: capacity[node["name"]] for node in cluster.nodes()}
    peaks = peak_use(cluster, needs)
    assert peaks.keys() == by_node.keys()
    for node, (cpu, memory) in peaks.items():
        assert cpu <= by_node[node][0]
        assert memory <= by_node[node][1]
    cluster.reconcile(jobs)


def peak_use(cluster: Cluster, needs: dict[str, tuple[float, int, float]]) -> dict[str, tuple[float, int]]:
    """The most cpu and memory that ran on each node at one time, by what the jobs wrote themselves."""
    changes: dict[str, list[tuple[float, int, float, int]]] = {}
    for name, (cpu, memory, _) in needs.items():
        for line in cluster.evidence(name):
            sign = 1 if line.what == "start" else -1
            # In one hundredth of a second an end goes before a start.
            changes.setdefault(line.node, []).append((line.at, sign, sign * cpu, sign * memory))
    peaks: dict[str, tuple[float, int]] = {}
    for node, steps in changes.items():
        cpu = memory = 0.0
        top_cpu = top_memory = 0.0
        for _, _, more_cpu, more_memory in sorted(steps):
            cpu, memory = cpu + more_cpu, memory + more_memory
            top_cpu, top_memory = max(top_cpu, cpu), max(top_memory, memory)
        peaks[node] = (top_cpu, int(top_memory))
    return peaks


async def one_slot(cluster: Cluster, **scheduler: object) -> None:
    """One node with two cores."""
    cluster.api()
    cluster.scheduler(**scheduler)
    cluster.worker(cpu=2, memory="4Gi", drivers="process")
    await cluster.ready()


async def test_on_one_slot_priority_goes_first_and_equals_in_order_of_arrival(cluster: Cluster) -> None:
    await one_slot(cluster)
    whole = {"resources": {"cpu": 2, "memory": "32Mi"}}
    gate = cluster.proofs / "gate"
    first = cluster.submit(cluster.spec("first", f"while [ ! -e '{gate}' ]; do sleep 0.02; done", **whole))
    await cluster.state(first, "running")
    wanted = {"low-1": -5, "mid-1": 0, "high-1": 7, "mid-2": 0, "low-2": -5, "high-2": 7, "top": 100, "mid-3": 0}
    for name, priority in wanted.items():
        cluster.submit(cluster.spec(name, "sleep 0.03", priority=priority, **whole))
    gate.touch()
    await cluster.all_over(9)
    spans = sorted([line.at for line in cluster.evidence(name)] + [name] for name in wanted)
    ran = [name for _, _, name in spans]
    assert ran == ["top", "high-1", "high-2", "mid-1", "mid-2", "mid-3", "low-1", "low-2"]
    assert all(end <= start for (_, end, _), (start, _, _) in itertools.pairwise(spans)), "one at a time"


async def test_a_big_job_has_its_turn_before_small_ones_that_came_later(cluster: Cluster) -> None:
    await one_slot(cluster, reserve_after_s=3)
    small = {"resources": {"cpu": 0.5, "memory": "32Mi"}}
    cluster.submit_all([cluster.spec(f"before{n}", "sleep 0.4", **small) for n in range(8)])
    big = cluster.submit(cluster.spec("big", resources={"cpu": 2, "memory": "32Mi"}))
    cluster.submit_all([cluster.spec(f"after{n}", "sleep 0.4", **small) for n in range(100)])
    jobs = await cluster.all_over(109)
    assert {job["state"] for job in jobs} == {"succeeded"}
    began = cluster.evidence("big")[0].at
    later = sum(cluster.evidence(f"after{n}")[0].at > began for n in range(100))
    earlier = 100 - later
    assert later >= 30, "it waited until nearly all small ones had run"
    assert earlier >= 4, "small ones that fit were not let by while it waited"
    cluster.reconcile([job for job in jobs if job["id"] == big])


async def test_why_tells_each_nodes_reason_in_numbers(cluster: Cluster) -> None:
    await one_slot(cluster)
    holder = cluster.submit(cluster.spec("holder", "sleep 60", resources={"cpu": 1.5, "memory": "3Gi"}))
    await cluster.state(holder, "running")
    waiting = [
        cluster.submit(cluster.spec(f"w{n}", resources={"cpu": 1, "memory": "2Gi"}, priority=priority))
        for n, priority in enumerate((5, 1))
    ]
    status = cluster.job(waiting[1])["status"]
    assert status["ahead"] == 1
    (verdict,) = status["explanation"]
    assert (verdict["node"], verdict["fits"]) == ("n1", False)
    assert verdict["reasons"] == ["has 0.5 cpu free (1 needed)", "has 1Gi memory free (2Gi needed)"]
    told = cluster.cli("why", waiting[0])
    assert told.returncode == 0
    for words in ("n1", "0.5 cpu free (1 needed)", "1Gi memory free (2Gi needed)", "first in line"):
        assert words in told.stdout
    refused = cluster.http.post("/v1/jobs", json=cluster.spec("huge", resources={"cpu": 3}))
    assert refused.status_code == 422
    assert "2 cpu (3 needed)" in refused.json()["errors"][0]["message"]
    for job_id in (holder, *waiting):
        cluster.http.post(f"/v1/jobs/{job_id}/cancel")
