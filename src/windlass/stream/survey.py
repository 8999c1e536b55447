"""What is on a cluster's streams, without a look at any message: lengths, ages, groups, and what was read and not yet
dealt with."""

from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from windlass.core.ids import NodeId
from windlass.stream.keys import Keys
from windlass.stream.outage import StreamDown, heeding

#: Streams that are looked at, at most, and keys of the whole server that are gone through to find them.
MOST, GONE_THROUGH = 500, 200_000


@dataclass(frozen=True, slots=True)
class Group:
    """A group of readers: who they are, entries they read and have not dealt with, entries they have not read."""

    name: str
    consumers: int
    pending: int
    last_delivered: str
    lag: int | None


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream. `ttl_s`: seconds until it goes by itself; None: never."""

    key: str
    entries: int
    first: str | None
    last: str | None
    bytes: int | None
    ttl_s: int | None
    groups: list[Group] = field(default_factory=list[Group])


async def survey(redis: Redis, keys: Keys) -> list[Stream]:
    """Every stream of the cluster that is there, its nodes' up to MOST. Raises StreamDown."""
    try:
        names = [keys.leader, keys.news, *await _of_nodes(redis, keys)]
        return [found for name in names if (found := await _look(redis, name)) is not None]
    except (RedisError, OSError, TimeoutError) as error:
        raise StreamDown(f"{type(error).__name__}: {error}".rstrip(": ")) from error


async def _of_nodes(redis: Redis, keys: Keys) -> list[str]:
    found: list[str] = []
    cursor, seen = 0, 0
    while len(found) < MOST and seen < GONE_THROUGH:
        answer = redis.scan(cursor, match=keys.node(NodeId("*")), count=1000, _type="stream")
        cursor, some = cast("tuple[int, list[bytes]]", await heeding(cast("Any", answer)))
        found += [name.decode(errors="replace") for name in some]
        seen += 1000
        if cursor == 0:
            break
    return sorted(set(found))[:MOST]


async def _look(redis: Redis, name: str) -> Stream | None:
    pipe = redis.pipeline(transaction=False)
    pipe.exists(name)
    pipe.xlen(name)
    pipe.xrange(name, count=1)
    pipe.xrevrange(name, count=1)
    pipe.memory_usage(name)
    pipe.ttl(name)
    there, length, first, last, size, ttl = await heeding(pipe.execute(raise_on_error=False))
    if not there:
        return None
    for answer in (length, first, last):
        if isinstance(answer, Exception):
            raise answer
    groups = cast("list[dict[str, Any]]", await heeding(cast("Any", redis.xinfo_groups(name))))
    return Stream(name, length, _id(first), _id(last), size if isinstance(size, int) else None,
                  ttl if isinstance(ttl, int) and ttl >= 0 else None, [_group(one) for one in groups])  # fmt: skip


def _id(entries: list[Any]) -> str | None:
    return entries[0][0].decode() if entries else None


def _group(one: dict[str, Any]) -> Group:
    name, delivered = (_text(one.get(key, "")) for key in ("name", "last-delivered-id"))
    return Group(name, one.get("consumers", 0), one.get("pending", 0), delivered, one.get("lag"))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
