"""How much is on the streams that nobody has dealt with yet, and how old the oldest of it is.

What was dealt with is deleted, so all that is there counts. Ages are by the server's own clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from windlass.core.ids import NodeId
from windlass.stream.keys import Keys
from windlass.stream.outage import StreamDown, heeding


@dataclass(frozen=True, slots=True)
class Lag:
    """Of one stream, or of several together."""

    entries: int
    oldest_s: float


async def lag(redis: Redis, keys: Keys, nodes: Iterable[NodeId]) -> tuple[Lag, Lag]:
    """Of the leader's stream, and of all these nodes' together. Raises StreamDown."""
    wanted = [keys.leader, *map(keys.node, nodes)]
    pipe = redis.pipeline(transaction=False)
    pipe.time()
    for key in wanted:
        pipe.xlen(key)
        pipe.xrange(key, count=1)
    try:
        (seconds, micros), *answers = await heeding(pipe.execute())
    except (RedisError, OSError, TimeoutError) as error:
        raise StreamDown(str(error) or type(error).__name__) from error
    now = seconds + micros / 1e6
    found = [Lag(n, _age(first, now)) for n, first in zip(answers[::2], answers[1::2], strict=True)]
    others = found[1:]
    return found[0], Lag(sum(one.entries for one in others), max((one.oldest_s for one in others), default=0.0))


def _age(first: list[Any], now: float) -> float:
    return max(0.0, now - int(first[0][0].partition(b"-")[0]) / 1000) if first else 0.0
