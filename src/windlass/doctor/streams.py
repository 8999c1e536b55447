"""Redis or Valkey: whether it lets us in, takes what is written, and throws nothing away by itself."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from windlass.doctor.clocks import measure
from windlass.doctor.findings import Notes, Severity
from windlass.doctor.hosts import near
from windlass.stream.outage import heeding
from windlass.stream.produce import connect

OLDEST = (7, 0)
#: Seconds a scratch key lives should this process die before it takes it away, and share of memory that is much.
SCRATCH_S, FULL = 60, 0.8
#: What roles that hold the whole stream say; a node's own user says less (stream/access.py).
SAID = (("XADD", "{key}", "*", "m", "x"), ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "{key}", ">"),
        ("XGROUP", "CREATE", "{key}", "g", "0", "MKSTREAM"), ("XACK", "{key}", "g", "1-1"), ("XDEL", "{key}", "1-1"),
        ("XPENDING", "{key}", "g"), ("XLEN", "{key}"), ("XRANGE", "{key}", "-", "+"),
        ("XREAD", "STREAMS", "{key}", "0"), ("EXPIRE", "{key}", "60"), ("DEL", "{key}"))  # fmt: skip
MAKES_USERS = (("ACL", "SETUSER", "{key}"), ("ACL", "DELUSER", "{key}"))
FACTS = (
    "redis_version", "valkey_version", "server_name", "redis_mode", "role", "uptime_in_seconds", "connected_clients",
    "maxclients", "used_memory", "maxmemory", "maxmemory_policy", "evicted_keys", "loading", "rdb_last_bgsave_status",
    "aof_enabled", "aof_last_write_status", "rdb_changes_since_last_save", "total_error_replies", "os", "arch_bits",
)  # fmt: skip


async def examine(
    url: str, cluster: str, notes: Notes, *, login: tuple[str, str] | None = None, makes_users: bool = False
) -> None:
    """Look at the server. `login` is a node's own; `makes_users` says that the API gives nodes theirs here."""
    redis = connect(url, login)
    try:
        await heeding(cast("Any", redis.ping()))
        notes.ok("reachable", "it answers")
        notes.clocks["redis"] = await measure(lambda: _now(redis))
        if login is not None:
            return notes.skipped("settings", "a node's own user sees no more; look from a host of the API")
        info = cast("dict[str, Any]", await heeding(cast("Any", redis.info("all"))))
        notes.facts |= {name: info[name] for name in FACTS if name in info}
        _version(info, notes)
        _memory(info, notes)
        _persistence(info, notes)
        _role(info, notes)
        await _writes(redis, cluster, notes)
        await _rights(redis, cluster, SAID + (MAKES_USERS if makes_users else ()), notes)
        _guarded(url, notes)
    except (AuthenticationError, NoPermissionError) as fault:
        _refused(fault, login, notes)
    except (RedisError, OSError, TimeoutError, ValueError) as fault:
        told = str(fault) or f"no answer ({type(fault).__name__})"
        notes.error("reachable", told, "see that it runs, and that redis.url is right; jobs go on by polls meanwhile")
    finally:
        await redis.aclose()


async def _now(redis: Redis) -> float:
    seconds, micros = cast("tuple[int, int]", await heeding(cast("Any", redis.time())))
    return seconds + micros / 1e6


def _refused(fault: RedisError, login: tuple[str, str] | None, notes: Notes) -> None:
    if isinstance(fault, NoPermissionError) and login is not None:
        return notes.ok("rights", "this node's user is let in, and may not more than it should")
    if login is not None:
        fix = "the worker has the API make it again within seconds; if this stays, see redis_access_waits in its log"
        return notes.error("rights", f"this node's user {login[0]} is not let in: {fault}", fix)
    return notes.error("rights", f"it does not let us in: {fault}", "correct user and password in redis.url")


def _version(info: Mapping[str, Any], notes: Notes) -> None:
    valkey = info.get("valkey_version")
    shown = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
    numbers = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    fix = "upgrade it: before 7.0 a user can't be held to one stream"
    notes.judge("version", numbers >= OLDEST, shown, f"{shown} is older than 7.0", fix)


def _memory(info: Mapping[str, Any], notes: Notes) -> None:
    policy, most, used = info["maxmemory_policy"], int(info["maxmemory"]), int(info["used_memory"])
    evicts = "when memory is full it throws streams away, and starts wait for a sweep"
    fix = "CONFIG SET maxmemory-policy noeviction, and in its configuration file"
    told = f"maxmemory-policy is {policy}: {evicts}"
    severity = Severity.ERROR if most else Severity.WARNING
    notes.judge("policy", policy == "noeviction", "maxmemory-policy is noeviction", told, fix, severity)
    if most and used > FULL * most:
        told = f"{used} of {most} bytes of maxmemory are used; from full on it refuses writes"
        notes.warn("memory", told, "raise maxmemory, or see what else is kept there")
    clients, room = int(info["connected_clients"]), int(info.get("maxclients", 10_000))
    if clients > FULL * room:
        notes.warn("clients", f"{clients} of {room} clients are connected", "raise maxclients")


def _persistence(info: Mapping[str, Any], notes: Notes) -> None:
    """None is needed; one that fails has it refuse writes."""
    failed = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if info.get(name, "ok") != "ok"]
    fix = "give its disk room, or turn persistence off (save '' and appendonly no): Windlass needs none"
    told = f"it can't save its data ({', '.join(failed)} is not ok), and refuses writes then"
    kept = "append-only file on" if info.get("aof_enabled") else "none, or snapshots"
    notes.judge("persistence", not failed, f"persistence: {kept}; Windlass needs none", told, fix)


def _role(info: Mapping[str, Any], notes: Notes) -> None:
    if info.get("redis_mode") == "cluster":
        notes.error(
            "mode", "it is a Redis Cluster", "use a single server, or one with replicas: what it holds may be lost"
        )
    if info.get("role") != "master":
        notes.error("writable", "it is a replica: it takes no writes", "point redis.url at the primary")


async def _writes(redis: Redis, cluster: str, notes: Notes) -> None:
    """Write a scratch stream, read it, and take it away."""
    key = f"{cluster}:doctor:{secrets.token_hex(8)}"
    try:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.xadd(key, {"m": b"x"})
            pipe.expire(key, SCRATCH_S)
            pipe.xrange(key)
            pipe.delete(key)
            await heeding(pipe.execute())
    except RedisError as fault:
        notes.error("writes", f"it refuses what we write: {fault}", "give its user what is refused, or its memory room")
    else:
        notes.ok("writes", "it takes what we write")


async def _rights(redis: Redis, cluster: str, wanted: Sequence[Sequence[str]], notes: Notes) -> None:
    """Ask the server itself what our user may."""
    try:
        user = await _acl(redis, "WHOAMI")
        refused = [command for command in wanted if await _may_not(redis, user, command, f"{cluster}:x")]
    except RedisError as fault:
        return notes.skipped("rights", f"can't be looked at, for this user may not ask: {fault}")
    names = ", ".join(" ".join(command[:2]) if command[0] in ("ACL", "XGROUP") else command[0] for command in refused)
    fix = f"ACL SETUSER {user} with those commands on keys {cluster}:*"
    notes.judge("rights", not refused, f"user {user} may all we do", f"user {user} may not: {names}", fix)


async def _may_not(redis: Redis, user: str, command: Sequence[str], key: str) -> bool:
    return await _acl(redis, "DRYRUN", user, *(word.format(key=key) for word in command)) != "OK"


async def _acl(redis: Redis, *words: str) -> str:
    answer = await heeding(cast("Any", redis.execute_command("ACL", *words)))
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _guarded(url: str, notes: Notes) -> None:
    parts = urlsplit(url)
    if parts.scheme == "unix" or near(parts.hostname or ""):
        return
    told = "redis.url names no password: who reaches it can have any worker do anything"
    notes.judge("password", bool(parts.password or "password=" in parts.query), "it is asked for a password", told,
                "set one there (requirepass or ACL) and in redis.url", Severity.WARNING)  # fmt: skip
    notes.judge("tls", parts.scheme == "rediss", "TLS is on", "what goes to Redis travels in clear",
                "write rediss:// in redis.url, and set redis.ca_file", Severity.NOTE)  # fmt: skip
