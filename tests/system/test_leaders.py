"""Several schedulers: whatever becomes of the one that leads, terms never mix, and anyone can see who leads."""

import signal
from datetime import UTC, datetime, timedelta

import httpx2
import psycopg

from tests.ports import reserved_port
from tests.support import wait_until
from tests.system.cluster import Cluster, Job, Role
from windlass.store import leases
from windlass.store.db import Conn, connect

#: The term of each placement, in the order in which they were committed.
TERMS = """
SELECT a.fence FROM events e JOIN attempts a ON a.id = e.data->>'attempt_id' WHERE e.type = 'job.placed' ORDER BY e.id
"""


def terms_of_placements(cluster: Cluster) -> list[int]:
    with psycopg.connect(cluster.database_url) as conn:
        return [row[0] for row in conn.execute(TERMS)]


def overview(cluster: Cluster) -> Job:
    return cluster.http.get("/v1/cluster").json()


def leading(cluster: Cluster, schedulers: list[Role]) -> Role | None:
    """Who leads, as the cluster says, once the others stand by."""
    found = overview(cluster)
    if found["leader"] is None or len(found["standbys"]) < len(schedulers) - 1:
        return None
    return next((one for one in schedulers if one.pid == found["leader"]["pid"]), None)


def metric(port: int, name: str) -> float:
    """The value on a role's page for Prometheus."""
    page = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"{name} "))


async def test_a_frozen_leader_that_thaws_moves_nothing(cluster: Cluster) -> None:
    cluster.api()
    cluster.worker()
    ports = [reserved_port() for _ in range(2)]
    schedulers = [cluster.scheduler(f"s{n}", **{"metrics.port": port}) for n, port in enumerate(ports)]
    await cluster.ready()
    frozen = await wait_until(lambda: leading(cluster, schedulers), "one leads and one stands by")
    port = ports[schedulers.index(frozen)]
    term = overview(cluster)["leader"]["term"]
    assert metric(port, "windlass_leader_term") == term
    made = [cluster.spec(f"j{n}", "sleep 0.1", resources={"cpu": 1}) for n in range(300)]
    cluster.submit_all(made)
    await wait_until(lambda: len(cluster.jobs(state="succeeded")) > 20, "jobs end")
    frozen.freeze()
    await wait_until(lambda: terms_of_placements(cluster)[-1] > term, "placements of the next term")
    frozen.thaw()
    jobs = await cluster.all_over(len(made))
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert all(cluster.starts(job["name"]) == [1] for job in jobs)
    cluster.reconcile(jobs)
    found = terms_of_placements(cluster)
    assert (found, set(found)) == (sorted(found), {term, term + 1})
    assert overview(cluster)["leader"]["term"] == term + 1
    await wait_until(lambda: leading(cluster, schedulers) not in (None, frozen), "the old leader stands by")
    assert metric(port, "windlass_leader_term") == 0


async def test_what_a_leader_writes_that_was_deposed_unawares_is_fenced_and_counted(cluster: Cluster) -> None:
    """Frozen for a moment, it still trusts its lease when it goes on, and only the fence knows better."""
    cluster.api()
    cluster.worker()
    port = reserved_port()
    leader = cluster.scheduler(lease_ttl_s=30, lease_renew_s=10, **{"metrics.port": port})
    await cluster.ready()
    conn = await connect(cluster.database_url, "test")
    try:
        term = await wait_until(lambda: _fresh(conn), "its lease is good for long yet")
        leader.freeze()
        await leases.expire(conn, term)
        assert await leases.take(conn, "another", 30) == term + 1
        job_id = cluster.submit(cluster.spec("late"))
        leader.thaw()
        await wait_until(lambda: metric(port, "windlass_fenced_writes_total") >= 1, "its write is fenced")
        assert (cluster.job(job_id)["state"], terms_of_placements(cluster)) == ("queued", [])
        assert "lease_lost" not in leader.said(), "it found out by the fence, not by a renewal"
    finally:
        await conn.close()
    (job,) = await cluster.over(job_id)
    assert (job["state"], terms_of_placements(cluster)) == ("succeeded", [term + 2])


async def _fresh(conn: Conn) -> int | None:
    """The term of a lease that won't be renewed within the next five seconds."""
    found = await leases.leader(conn)
    return found.term if found and found.expires_at > datetime.now(UTC) + timedelta(seconds=25) else None


async def test_the_next_one_leads_at_once_when_the_leader_is_killed_or_ends(cluster: Cluster) -> None:
    cluster.api()
    cluster.worker()
    schedulers = [cluster.scheduler(f"s{n}") for n in range(3)]
    await cluster.ready()
    for number in (signal.SIGKILL, signal.SIGTERM):
        leader = await wait_until(lambda: leading(cluster, schedulers), "one leads and the others stand by")
        term = overview(cluster)["leader"]["term"]
        shown = cluster.cli("status")
        assert shown.returncode == 0, shown.stderr
        assert [line.split()[0] for line in shown.stdout.splitlines()[1 : len(schedulers) + 1]] == (
            ["leader"] + ["standby"] * (len(schedulers) - 1)
        )
        leader._send(number)  # pyright: ignore
        schedulers.remove(leader)
        (job,) = await cluster.over(cluster.submit(cluster.spec(f"after-{number.name}")))
        assert job["state"] == "succeeded"
        assert terms_of_placements(cluster)[-1] == term + 1
    schedulers[0].kill()
    await wait_until(lambda: overview(cluster)["leader"] is None, "the lease has lapsed")
    assert cluster.cli("status").returncode == 1


async def test_a_port_for_metrics_that_is_taken_is_named(cluster: Cluster) -> None:
    port = reserved_port()
    cluster.api()
    cluster.scheduler(**{"metrics.port": port})
    await wait_until(lambda: "leading" in cluster.started[-1].said(), "it leads")
    assert metric(port, "windlass_leader_term") == 1
    second = cluster.scheduler("second", **{"metrics.port": port})
    await wait_until(lambda: second.code is not None, "it gives up")
    assert second.code == 2
    assert f"metrics.port = {port}" in second.said()
