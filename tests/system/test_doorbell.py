"""The doorbell breaks: Redis away, refusing, emptied again and again, or out of the leader's reach alone. Jobs go on by
poll and exchange, none is lost or run twice, and nobody's log is flooded."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis

from tests.conftest import Servers
from tests.support import wait_until
from tests.system.cluster import Cluster, Role
from tests.system.test_outages import all_ran_once, start_valkey, stop_valkey
from windlass.chaos.proxy import DROP, PASS, Proxy

STREAM_EVENTS = {"redis_degraded", "redis_back", "stream_repaired", "entry_parked"}


def boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Load:
    """Short jobs, one every `every_s` seconds, and how long each took from its submission to its start."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.submitted: dict[str, tuple[str, float]] = {}

    async def run(self, for_s: float, every_s: float = 0.1) -> None:
        began = boot_s()
        while boot_s() - began < for_s:
            name = f"{self.name}{len(self.submitted)}"
            at = boot_s()
            self.submitted[name] = (self.cluster.submit(self.cluster.spec(name)), at)
            await wait_until(lambda at=at: boot_s() - at >= every_s, "the next one's time")

    async def over(self) -> None:
        jobs = await self.cluster.over(*[job_id for job_id, _ in self.submitted.values()])
        all_ran_once(self.cluster, jobs)

    def waits(self, since_s: float = 0.0) -> list[float]:
        """Seconds to the start, sorted, of those submitted since_s or more after the first."""
        first = min(at for _, at in self.submitted.values())
        found = [
            self.cluster.evidence(name)[0].at - at for name, (_, at) in self.submitted.items() if at - first >= since_s
        ]
        return sorted(found)


def lines(role: Role, *events: str) -> list[dict]:
    found = [json.loads(line) for line in role.said().splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] in (events or STREAM_EVENTS)]


def quiet(roles: list[Role], took_s: float, tail: int = 2) -> None:
    """At most one line a second about the stream, in each role."""
    for role in roles:
        assert len(lines(role)) <= took_s + tail, (role.log.name, lines(role))


async def whole_again(cluster: Cluster, worker: Role) -> None:
    """Redis serves all, the exchange has ended, and jobs go their usual way, without another exchange."""

    def back() -> bool:
        ended = len(lines(worker, "exchange_ends")) == len(lines(worker, "exchange_begins"))
        return ended and cluster.http.get("/readyz").json()["checks"]["stream"] == "ok"

    await wait_until(back, "the stream serves again")
    exchanges = len(lines(worker, "exchange_begins"))
    after = Load(cluster, f"after{exchanges}-")
    await after.run(0.2, 0.2)
    await after.over()
    assert len(lines(worker, "exchange_begins")) == exchanges


async def test_redis_away_under_load(fragile: Cluster, own_servers: Servers) -> None:
    roles = [fragile.api(), fragile.scheduler(), fragile.worker()]
    await fragile.ready()
    load = Load(fragile, "away")
    began = time.monotonic()
    stop_valkey(own_servers)
    try:
        await load.run(6)
        await load.over()
        took = time.monotonic() - began
        assert all(len(lines(role, "redis_degraded")) == 1 for role in roles), [lines(role) for role in roles]
        assert fragile.http.get("/v1/cluster").json()["redis_degraded"] is True
    finally:
        start_valkey(own_servers)
    await whole_again(fragile, roles[2])
    quiet(roles, took)
    await wait_until(lambda: all(lines(role, "redis_back") for role in roles), "its end is told")


async def test_the_leader_alone_is_cut_off(fragile: Cluster, own_servers: Servers) -> None:
    """Redis serves everybody else, and swallows what the leader says without a word."""
    server = Path(unquote(urlsplit(own_servers.valkey_url).path))
    async with Proxy(server) as wire:
        fragile.api()
        scheduler = fragile.scheduler(**{"redis.url": f"redis://127.0.0.1:{wire.port}/0"})
        worker = fragile.worker()
        await fragile.ready()
        await wire.change(DROP)
        load = Load(fragile, "deaf")
        await load.run(11)
        await load.over()
        await wire.change(PASS)
        await whole_again(fragile, worker)
        assert len(lines(scheduler, "node_lost")) == 0


def snapshot(server: redis.Redis) -> Path:
    """Where it would save."""
    asked = server.config_get("dir") | server.config_get("dbfilename")
    return Path(asked["dir"], asked["dbfilename"])


@asynccontextmanager
async def refusing(server: redis.Redis, how: str) -> AsyncIterator[None]:
    """Redis answers, and refuses."""
    if how == "oom":
        server.config_set("maxmemory", 1)
    elif how == "readonly":
        server.replicaof("127.0.0.1", 9)
    elif how == "misconf":  # it can't save what it is told to save, and takes no more
        snapshot(server).mkdir()
        server.config_set("save", "3600 1")
        server.bgsave()
        await wait_until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err", "it failed to save")
    else:
        server.execute_command("ACL", "SETUSER", "rescue", "on", "nopass", "~*", "&*", "+@all")
        server.execute_command("AUTH", "rescue", "any")
        server.execute_command("ACL", "SETUSER", "default", "-@all")
    try:
        yield
    finally:
        if how == "oom":
            server.config_set("maxmemory", 0)
        elif how == "readonly":
            server.replicaof("NO", "ONE")
        elif how == "misconf":
            server.config_set("save", "")
            snapshot(server).rmdir()
        else:
            server.execute_command("ACL", "SETUSER", "default", "+@all")
            server.execute_command("ACL", "DELUSER", "rescue")


@pytest.mark.parametrize("how", ["oom", "readonly", "noperm", "misconf"])
async def test_a_redis_that_refuses(fragile: Cluster, own_servers: Servers, how: str) -> None:
    roles = [fragile.api(), fragile.scheduler(), fragile.worker()]
    await fragile.ready()
    load = Load(fragile, how)
    began = time.monotonic()
    with redis.Redis.from_url(own_servers.valkey_url, single_connection_client=True) as server:
        async with refusing(server, how):
            await load.run(1.5)
            await load.over()
        await whole_again(fragile, roles[2])
    quiet(roles, time.monotonic() - began)


async def test_flushall_again_and_again(fragile: Cluster, own_servers: Servers) -> None:
    roles = [fragile.api(), fragile.scheduler(), fragile.worker()]
    await fragile.ready()
    load, began = Load(fragile, "flushed"), time.monotonic()
    with redis.Redis.from_url(own_servers.valkey_url) as server:
        for _ in range(40):
            await load.run(0.2, 0.05)
            server.flushall()
    await load.over()
    quiet(roles, time.monotonic() - began)
    assert not lines(roles[1], "entry_parked")
