"""Faults of the servers: PostgreSQL, the ledger, and Valkey, the doorbell; and the end of everything at once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import RedisError

from windlass.chaos.site import Hit, NoTarget, Site
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.errors import Unavailable
from windlass.store import inspection
from windlass.stream.keys import FIELD, Keys
from windlass.stream.produce import connect

REDIS, POSTGRES = "redis", "postgres"
_GARBAGE = (b"\x00\xff", b"{", b"[]", b'[{"type":"exited"}]', b'["beat"]', b"[" * 2000)


@asynccontextmanager
async def _client(site: Site) -> AsyncGenerator[Any]:
    """A connection to Valkey. Raises NoTarget when it is not there, before anything was hurt."""
    client: Any = connect(site.cluster.redis_url)
    try:
        await client.ping()
        yield client
    except (RedisError, OSError) as error:
        raise NoTarget from error
    finally:
        await client.aclose()


async def _streams(site: Site, client: Any) -> list[str]:
    """The keys of all streams there are."""
    found = [key.decode() async for key in client.scan_iter(f"{Keys(site.cluster.name).cluster}:*")]
    return sorted(found)


async def flushall(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Redis forgets everything, groups included."""
    site.claim(hit, REDIS)
    async with _client(site) as client:
        hit.strike()
        await client.flushall()
        hit.heal()
    yield


async def redis_kill(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Redis is gone for a while, and comes back empty."""
    site.claim(hit, REDIS)
    hit.strike()
    site.cluster.valkey.kill()
    yield
    await site.cluster.valkey.wait()
    await hit.hold(1, 20)
    await site.cluster.valkey.start()
    hit.heal()


async def redis_freeze(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Redis accepts connections and says nothing."""
    site.claim(hit, REDIS)
    hit.strike()
    site.cluster.valkey.send(signal.SIGSTOP)
    yield
    await hit.hold(2, 12)
    site.cluster.valkey.send(signal.SIGCONT)
    hit.heal()


async def redis_oom(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Redis has no memory left, and takes no entry."""
    site.claim(hit, REDIS)
    async with _client(site) as client:
        hit.strike()
        await client.config_set("maxmemory", 1)
        yield
        await hit.hold(1, 10)
        await client.config_set("maxmemory", 0)
        hit.heal()


async def redis_readonly(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Redis has become a replica, as after a failover to another."""
    site.claim(hit, REDIS)
    async with _client(site) as client:
        hit.strike()
        await client.replicaof("127.0.0.1", "1")
        yield
        await hit.hold(1, 10)
        await client.replicaof("NO", "ONE")
        hit.heal()


async def redis_forged(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Entries in every stream that nobody of ours wrote."""
    site.claim(hit, REDIS)
    async with _client(site) as client:
        hit.strike()
        for key in await _streams(site, client):
            for garbage in _GARBAGE:
                await client.xadd(key, {FIELD: garbage})
            await client.xadd(key, {"unknown": "field"})
        hit.heal()
    yield


async def redis_doubled(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """For a while every entry that can be caught is written once more."""
    site.claim(hit, REDIS)
    async with _client(site) as client:
        hit.strike()
        ends = asyncio.get_running_loop().time() + hit.dice.uniform(1, 3)
        seen: set[bytes] = set()
        while asyncio.get_running_loop().time() < ends:
            for key in await _streams(site, client):
                for entry_id, fields in await client.xrange(key, count=200):
                    if entry_id not in seen:
                        seen.add(await client.xadd(key, fields))
                        seen.add(entry_id)
            await asyncio.sleep(0.02)
        hit.heal()
    yield


async def redis_trimmed(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Entries vanish before they are read, for a second."""
    site.claim(hit, REDIS)
    async with _client(site) as client:
        hit.strike()
        for _ in range(20):
            for key in await _streams(site, client):
                await client.xtrim(key, maxlen=0, approximate=False)
            await asyncio.sleep(0.05)
        hit.heal()
    yield


async def _postgres_back(site: Site, hit: Hit) -> None:
    await site.cluster.postgres.wait()
    await hit.hold(0, 3)
    await site.cluster.postgres.start()
    hit.heal()


async def postgres_fast(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """PostgreSQL restarts in its fast way."""
    site.claim(hit, POSTGRES)
    hit.strike()
    site.cluster.postgres.send(signal.SIGINT)
    yield
    await _postgres_back(site, hit)


async def postgres_immediate(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """PostgreSQL restarts without a checkpoint, and recovers."""
    site.claim(hit, POSTGRES)
    hit.strike()
    site.cluster.postgres.send(signal.SIGQUIT)
    yield
    await _postgres_back(site, hit)


async def postgres_kill(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of PostgreSQL's postmaster."""
    site.claim(hit, POSTGRES)
    hit.strike()
    site.cluster.postgres.kill()
    yield
    await _postgres_back(site, hit)


async def postgres_cut(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """Every connection to the ledger is cut at the same moment."""
    site.claim(hit, POSTGRES)
    hit.strike()
    try:
        await site.watch.ask(inspection.cut)
    except Unavailable as error:
        raise NoTarget from error
    hit.heal()
    yield


async def power_cut(site: Site, hit: Hit) -> AsyncGenerator[None, None]:
    """kill -9 of everything on the machine, jobs too; it starts again in any order."""
    cluster = site.cluster
    if site.busy or site.spared:
        raise NoTarget
    site.claim(hit, REDIS, POSTGRES, *cluster.members)
    hit.strike()
    cluster.kill()
    for pid in cluster.strays():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield
    await asyncio.gather(cluster.postgres.wait(), cluster.valkey.wait(), *(m.ended() for m in cluster.members.values()))
    back = [*cluster.members.values(), cluster.postgres, cluster.valkey]
    hit.dice.shuffle(back)
    for one in back:
        if isinstance(one, Postgres | Valkey):
            await one.start()
        else:
            one.start()
    hit.heal()
