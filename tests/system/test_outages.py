"""Servers that go away: Redis empty, down at the start or for long, PostgreSQL killed, and everything at once."""

import time

import httpx2
import redis

from tests.conftest import Servers
from tests.images import docker_missing
from tests.support import wait_until
from tests.system.cluster import Cluster, Job


def stop_valkey(servers: Servers) -> None:
    servers.portal.call(servers.valkey.kill)
    servers.portal.call(servers.valkey.wait)


def start_valkey(servers: Servers) -> None:
    assert servers.portal.call(servers.valkey.start) == servers.valkey_url


def stop_postgres(servers: Servers) -> None:
    servers.portal.call(servers.postgres.kill)
    servers.portal.call(servers.postgres.wait)


def start_postgres(servers: Servers) -> None:
    assert servers.portal.call(servers.postgres.start) == servers.postgres_url


def all_ran_once(cluster: Cluster, jobs: list[Job]) -> None:
    """All succeeded at the first try, and none was started twice."""
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert all(cluster.starts(job["name"]) == [1] for job in jobs)
    cluster.reconcile(jobs)


def short(cluster: Cluster, count: int, prefix: str = "j") -> list[dict]:
    """Jobs that run eight at a time."""
    return [cluster.spec(f"{prefix}{n}", "sleep 0.02", resources={"cpu": 1}) for n in range(count)]


async def some_are_done(cluster: Cluster, more_than: int = 20) -> None:
    await wait_until(lambda: len(cluster.jobs(state="succeeded")) > more_than, "some are done")


async def test_flushall_in_the_middle_of_500_jobs(fragile: Cluster, own_servers: Servers) -> None:
    """Launches on their way are lost, then reports on their way, then whatever there is."""
    fragile.api()
    scheduler = fragile.scheduler()
    worker = fragile.worker()
    await fragile.ready()
    with redis.Redis.from_url(own_servers.valkey_url) as stream:
        worker.freeze()
        # Its read is at the server already: what comes first is on the worker's side of the wire, and safe.
        fragile.submit_all(short(fragile, 1, "first"))
        await wait_until(lambda: len(fragile.jobs(state="running")) == 1, "one is placed and sent")
        await wait_until(lambda: stream.xlen(fragile.stream_of("n1")) >= 1, "it is sent, and maybe an answer to a beat")
        sent = stream.xlen(fragile.stream_of("n1"))
        fragile.submit_all(short(fragile, 499))
        await wait_until(lambda: len(fragile.jobs(state="running")) == 8, "eight are placed")
        await wait_until(lambda: stream.xlen(fragile.stream_of("n1")) > sent, "they are sent")
        stream.flushall()
        worker.thaw()
        await some_are_done(fragile, 50)
        scheduler.freeze()
        await wait_until(lambda: stream.xlen(f"{fragile.name}:leader") > 2, "reports wait")
        stream.flushall()
        scheduler.thaw()
        await some_are_done(fragile, 250)
        stream.flushall()
    all_ran_once(fragile, await fragile.all_over(500))


async def test_redis_away_at_the_start(fragile: Cluster, own_servers: Servers) -> None:
    stop_valkey(own_servers)
    try:
        fragile.api()
        fragile.scheduler()
        fragile.worker()

        def accepted() -> str | None:
            try:
                return fragile.submit(fragile.spec("early"), key="early")
            except httpx2.TransportError:
                return None

        job_id = await wait_until(accepted, "the API accepts a job without Redis")
        assert job_id is not None
        assert fragile.http.get("/livez").status_code == 200
    finally:
        start_valkey(own_servers)
    (job,) = await fragile.over(job_id)
    all_ran_once(fragile, [job])


async def test_redis_away_for_longer_than_a_node_may_be_silent(fragile: Cluster, own_servers: Servers) -> None:
    """The jobs run on, nothing is taken for lost, what is submitted meanwhile is accepted, and it all ends."""
    fragile.api()
    fragile.scheduler(node_suspect_s=1.5, node_lost_s=3)
    fragile.worker(heartbeat_s=0.5)
    await fragile.ready()
    running = fragile.submit_all([fragile.spec(f"long{n}", "sleep 8") for n in range(3)])
    fragile.submit_all(short(fragile, 60))
    for job_id in running:
        await fragile.state(job_id, "running")
    away = time.monotonic()
    stop_valkey(own_servers)
    try:
        fragile.submit_all(short(fragile, 20, "meanwhile"))
        await wait_until(lambda: time.monotonic() - away > 10, "ten seconds have passed")
        assert {node["state"] for node in fragile.nodes()} <= {"ready", "suspect"}
    finally:
        start_valkey(own_servers)
    jobs = await fragile.all_over(83)
    all_ran_once(fragile, jobs)
    assert {job["status"]["infra_losses"] for job in jobs} == {0}


async def test_postgres_killed_in_the_middle_the_api_says_503_and_recovers(
    fragile: Cluster, own_servers: Servers
) -> None:
    fragile.api()
    fragile.scheduler()
    fragile.worker()
    await fragile.ready()
    fragile.submit_all(short(fragile, 200))
    await some_are_done(fragile)
    stop_postgres(own_servers)
    try:
        answer = fragile.http.post("/v1/jobs", json=fragile.spec("late"), headers={"Idempotency-Key": "late"})
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
        assert fragile.http.get("/v1/jobs").status_code == 503
        assert fragile.http.get("/readyz").status_code == 503
        assert fragile.http.get("/livez").status_code == 200
    finally:
        start_postgres(own_servers)

    def accepted() -> bool:
        headers = {"Idempotency-Key": "late"}
        return fragile.http.post("/v1/jobs", json=fragile.spec("late"), headers=headers).status_code in (200, 201)

    await wait_until(accepted, "the API accepts jobs again")
    all_ran_once(fragile, await fragile.all_over(201))


async def test_everything_killed_at_once_loses_nothing(fragile: Cluster, own_servers: Servers) -> None:
    roles = [fragile.api(), fragile.scheduler(), fragile.worker()]
    await fragile.ready()
    driver = "process" if docker_missing() else "docker"
    fragile.submit_all([fragile.spec(f"long{n}", "sleep 5; exit 4", driver=driver, max_retries=0) for n in range(2)])
    fragile.submit_all(short(fragile, 150))
    await wait_until(lambda: fragile.starts("long0") == fragile.starts("long1") == [1], "the long ones run")
    await some_are_done(fragile)
    for role in roles:
        role.kill()
    stop_valkey(own_servers)
    stop_postgres(own_servers)
    start_postgres(own_servers)
    start_valkey(own_servers)
    for role in roles:
        role.start()
    jobs = await fragile.all_over(152)
    # What a process did at the moment of the crash can't be known: it is tried again, and told as a loss.
    again = [job for job in jobs if job["status"]["infra_losses"]]
    assert len(again) <= 16
    once = [job for job in jobs if job not in again]
    assert all(fragile.starts(job["name"]) == [1] for job in once)
    assert {job["state"] for job in jobs if job["name"].startswith("j")} == {"succeeded"}
    if driver == "docker":
        long = [job for job in jobs if job["name"].startswith("long")]
        assert [(len(job["status"]["attempts"]), job["status"]["attempts"][0]["exit_code"]) for job in long] == [
            (1, 4)
        ] * 2
    fragile.reconcile(jobs)
