"""The ledger pauses: restarted, frozen, cut off, locked, full. Never a yes that is not true, and back by itself."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx2
import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import Servers
from tests.support import HANG_S, wait_until
from tests.system.cluster import Cluster
from tests.system.test_outages import all_ran_once, start_postgres
from windlass.chaos.postgres_ear import PostgresEar
from windlass.chaos.proxy import DROP, PASS, Proxy


def postmaster(servers: Servers) -> int:
    return int((servers.postgres._files / "postmaster.pid").read_text().split()[0])


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def end_postgres(servers: Servers, how: signal.Signals) -> None:
    os.kill(postmaster(servers), how)
    servers.portal.call(servers.postgres.wait)


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def proxied(servers: Servers, database_url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of PostgreSQL, and the database's URL by way of it."""
    where = conninfo_to_dict(database_url)
    proxy = Proxy(Path(str(where["host"])) / ".s.PGSQL.5432", ear=PostgresEar)
    with servers.portal.wrap_async_context_manager(proxy):
        yield proxy, f"postgresql://{where['user']}@127.0.0.1:{proxy.port}/{where['dbname']}"


def refused(answer: httpx2.Response) -> None:
    """503 as it should be: a problem that says when to come again."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1


class Load:
    """Jobs submitted one after another, each with a key of its own and as often as it takes; ids of every yes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._numbers = cluster, count(1)
        self.accepted: dict[str, str] = {}
        self.refused = 0

    async def run(self, over: asyncio.Event) -> None:
        async with httpx2.AsyncClient(base_url=self._cluster.url, timeout=HANG_S) as http:
            while not over.is_set():
                key = f"load{next(self._numbers)}"
                while key not in self.accepted:
                    await self._try(http, key)

    async def _try(self, http: httpx2.AsyncClient, key: str) -> None:
        spec = self._cluster.spec(key, resources={"cpu": 0.1})
        answer = await http.post("/v1/jobs", json=spec, headers={"Idempotency-Key": key})
        if answer.status_code in (200, 201):
            self.accepted[key] = answer.json()["id"]
            await asyncio.sleep(0.02)
        else:
            refused(answer)
            self.refused += 1
            await asyncio.sleep(0.2)


async def test_restarts_under_load(fragile: Cluster, own_servers: Servers) -> None:
    """Fast, immediate and by kill -9: no job that was accepted is lost, none that runs is touched."""
    fragile.api()
    fragile.scheduler()
    fragile.worker()
    await fragile.ready()
    long = fragile.submit_all([fragile.spec(f"long{n}", "sleep 9") for n in range(3)])
    for job_id in long:
        await fragile.state(job_id, "running")
    load, over = Load(fragile), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(over))
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            mark = len(load.accepted)
            await wait_until(lambda mark=mark: len(load.accepted) > mark + 10, "the load runs")
            before = load.refused
            await asyncio.to_thread(end_postgres, own_servers, how)
            await wait_until(lambda before=before: load.refused > before + 2, f"503 after {how.name}")
            refused(await asyncio.to_thread(fragile.http.get, "/v1/jobs"))
            await asyncio.to_thread(start_postgres, own_servers)
            probe = await asyncio.to_thread(_insist, fragile, f"after-{how.name}")
            await wait_until(lambda how=how: fragile.starts(f"after-{how.name}"), "a new job starts")
            load.accepted[f"after-{how.name}"] = probe
        over.set()
    jobs = await fragile.all_over(len(load.accepted) + len(long))
    assert {job["id"] for job in jobs} == {*load.accepted.values(), *long}
    all_ran_once(fragile, jobs)


def _insist(cluster: Cluster, key: str) -> str:
    """Submit until it is accepted."""
    while True:
        answer = cluster.http.post("/v1/jobs", json=cluster.spec(key), headers={"Idempotency-Key": key})
        if answer.status_code in (200, 201):
            return answer.json()["id"]
        refused(answer)
        time.sleep(0.1)


async def test_frozen_and_locked(fragile: Cluster, own_servers: Servers) -> None:
    """A ledger that hangs is told in time, whatever it hangs on; the leader leads on or anew."""
    fragile.api()
    fragile.scheduler()
    fragile.worker()
    await fragile.ready()
    first = fragile.submit(fragile.spec("first", "sleep 9"))
    await fragile.state(first, "running")
    with frozen(family(postmaster(own_servers))):
        for _ in range(3):  # one waits for an answer, one for a connection, and then it is known
            refused(fragile.http.post("/v1/jobs", json=fragile.spec("never")))
        assert fragile.http.get("/livez").status_code == 200
    second = _insist(fragile, "second")
    await fragile.over(second)
    with psycopg.connect(fragile.database_url) as locker:
        locker.execute("LOCK TABLE jobs, tasks IN ACCESS EXCLUSIVE MODE")
        async with httpx2.AsyncClient(base_url=fragile.url, timeout=HANG_S) as http:
            several = [http.post("/v1/jobs", json=fragile.spec("never")) for _ in range(20)]
            for answer in await asyncio.gather(*several):
                refused(answer)
        assert fragile.http.get("/livez").status_code == 200
    third = _insist(fragile, "third")
    jobs = await fragile.over(first, second, third)
    all_ran_once(fragile, jobs)
    scheduler = fragile.started[1].said()
    assert "duties_failed" not in scheduler
    assert scheduler.count('"leading"') <= 4, "no loop of crashes"


async def test_answers_lost_at_commit(fragile: Cluster, own_servers: Servers) -> None:
    """The connection is cut when the commit has happened: the API looks, the leader reads anew; nothing is doubled."""
    with ExitStack() as stack:
        api_way, api_url = stack.enter_context(proxied(own_servers, fragile.database_url))
        leader_way, leader_url = stack.enter_context(proxied(own_servers, fragile.database_url))
        fragile._role("api", "api", {"database.url": api_url, "api.port": fragile.port, "api.allow_anonymous": "true"})
        fragile._role("scheduler", "scheduler", {"database.url": leader_url})
        fragile.worker()
        await fragile.ready()
        ids: list[str] = []
        for n in range(5):
            lost = own_servers.portal.call(_lose, api_way, "INSERT INTO jobs")
            ids.append(fragile.submit(fragile.spec(f"asked{n}"), key=f"asked{n}"))
            assert lost.is_set(), "the answer was lost, and the API found out"
            assert fragile.submit(fragile.spec(f"asked{n}"), key=f"asked{n}") == ids[-1]
        for n in range(4):
            lost = own_servers.portal.call(_lose, leader_way, "INSERT INTO attempts")
            ids += fragile.submit_all([fragile.spec(f"placed{n}-{i}", "sleep 0.05") for i in range(10)])
            await wait_until(lost.is_set, "the answer to a placement was lost")
        jobs = await fragile.all_over(len(ids))
        assert {job["id"] for job in jobs} == set(ids)
        all_ran_once(fragile, jobs)


async def _lose(proxy: Proxy, text: str) -> asyncio.Event:
    return proxy.lose_answer(text)


async def test_a_leader_cut_off_from_the_ledger(fragile: Cluster, own_servers: Servers) -> None:
    """A standby leads; the old leader writes nothing, and stands by when the way is free again."""
    with proxied(own_servers, fragile.database_url) as (way, url):
        fragile.api()
        cut_off = fragile._role("scheduler", "cut", {"database.url": url})
        fragile.worker()
        await fragile.ready()
        standby = fragile.scheduler("standby")
        await wait_until(lambda: fragile.http.get("/v1/cluster").json()["standbys"], "the standby is up")
        own_servers.portal.call(way.change, DROP)
        await wait_until(lambda: '"leading"' in standby.said(), "the standby leads")
        job_id = fragile.submit(fragile.spec("after"))
        all_ran_once(fragile, await fragile.over(job_id))
        assert cut_off.said().count('"leading"') == 1
        own_servers.portal.call(way.change, PASS)
        standby.stop()
        await wait_until(lambda: cut_off.said().count('"leading"') == 2, "it can lead again")
        all_ran_once(fragile, await fragile.over(fragile.submit(fragile.spec("again"))))
