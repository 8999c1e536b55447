"""Outages of Redis: noticed, waited out and told in one place, for every role.

A `Line` is one way to Redis: a writer's or a reader's. While it is down, whoever calls hears StreamDown at once, and
a task of its own looks in the background whether the server answers again, first after 0.1 s, later every 2 s, each
time over a new connection, so that an address is resolved anew. What counts as back is only a call that succeeded:
a server may answer and still refuse (READONLY, OOM, MISCONF, NOPERM).

`Health` is all lines of a process: since when one of them is down, as a value, as a gauge, and in the process's log.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from windlass import metrics
from windlass.errors import WindlassError

log = structlog.get_logger("stream")

#: Seconds an answer may take, beyond what the question itself asks the server to wait.
ANSWER_S = 2.0
PAUSE_FIRST_S, PAUSE_MOST_S = 0.1, 2.0
#: At most one line of log per so many seconds.
QUIET_S = 1.0


class StreamDown(WindlassError):
    """Redis does not answer, or not sensibly. Nothing is lost: the ledger has it."""


async def heeding(answer: Awaitable[Any], within_s: float = ANSWER_S) -> Any:
    """What redis-py answers, within within_s seconds. A cancel that it keeps to itself on the way is raised behind it,
    or its task would never end. Raises TimeoutError."""
    task = asyncio.current_task()
    async with asyncio.timeout(within_s):
        before = task.cancelling() if task else 0
        try:
            return await answer
        finally:
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError


class Health:
    """One per process. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._down: set[object] = set()
        self._since: float | None = None
        self._failures = 0
        self._told_since: float | None = None  # an outage the log knows of, and not yet its end
        self._last_line = -QUIET_S
        self._noted: Counter[str] = Counter()
        #: set when Redis does not let this process in any more; whoever does something about it clears it
        self.locked_out = asyncio.Event()

    @property
    def degraded_s(self) -> float | None:
        """For how many seconds Redis has not served this process; None while it does."""
        return None if self._since is None else self._clock() - self._since

    def failed(self, line: object, why: str) -> None:
        """A call over this line failed."""
        self._down.add(line)
        self._failures += 1
        if self._since is None:
            self._since = self._clock()
            metrics.REDIS_DEGRADED.set(1)
        if self._told_since is None and self._may_speak():
            self._told_since = self._since
            log.warning("redis_degraded", error=why)

    def served(self, line: object) -> None:
        """A call over this line succeeded."""
        self._mark_up(line)
        if self._told_since is not None and not self._down and self._may_speak():
            log.info("redis_back", outage_s=round(self._clock() - self._told_since, 1), failures=self._failures)
            self._told_since, self._failures = None, 0
        if self._noted and self._may_speak():
            log.info("stream_repaired", **self._noted)
            self._noted.clear()

    def noted(self, what: str, count: int = 1) -> None:
        """Something that was put right by itself: it is told with the next call that succeeds."""
        self._noted[what] += count

    def closed(self, line: object) -> None:
        """This line is no more. That says nothing of Redis: the log tells of an outage's end with the next answer."""
        self._mark_up(line)

    def _mark_up(self, line: object) -> None:
        if line in self._down:
            self._down.discard(line)
            if not self._down:
                self._since = None
                metrics.REDIS_DEGRADED.set(0)

    def _may_speak(self) -> bool:
        now = self._clock()
        if now - self._last_line < QUIET_S:
            return False
        self._last_line = now
        return True


class Line:
    """One way to Redis. `name` says in errors what it is for."""

    def __init__(self, redis: Redis, health: Health, name: str) -> None:
        self._redis, self.health, self._name = redis, health, name
        self._why = ""
        self._tries = 0
        self._mending: asyncio.Task[None] | None = None

    @property
    def down(self) -> bool:
        """Whether the last call failed: the next success ends it."""
        return self._tries > 0

    async def ask(self, question: Callable[[], Awaitable[Any]], within_s: float = ANSWER_S) -> Any:
        """The question's answer. Raises StreamDown; at once while the line is known to be down."""
        if self._closed:
            raise StreamDown(self._why)
        try:
            answer = await heeding(question(), within_s)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            raise StreamDown(self._why) from error
        self._tries = 0
        self.health.served(self)
        return answer

    @property
    def _closed(self) -> bool:
        return self._mending is not None and not self._mending.done()

    def _failed(self, error: Exception) -> None:
        refused = "refuses" if isinstance(error, ResponseError) else "fails"
        self._judge(error)
        self._why = f"Redis {refused} {self._name}: {type(error).__name__}: {error}".rstrip(": ")
        self._tries += 1
        self.health.failed(self, self._why)
        if not self._closed:
            self._mending = asyncio.create_task(self._mend())

    async def _mend(self) -> None:
        """Returns once the server answers anything."""
        while True:
            most = min(PAUSE_MOST_S, PAUSE_FIRST_S * 2 ** min(self._tries - 1, 8))
            await asyncio.sleep(most * random.uniform(0.5, 1.0))
            try:
                await self._redis.connection_pool.disconnect(inuse_connections=False)
                await heeding(cast("Awaitable[Any]", self._redis.ping()))
            except ResponseError:
                return
            except (RedisError, OSError, TimeoutError) as error:
                self._judge(error)
                self._tries += 1
                self.health.failed(self, f"Redis fails {self._name}: {type(error).__name__}: {error}")
            else:
                return

    def _judge(self, error: Exception) -> None:
        if isinstance(error, AuthenticationError | NoPermissionError):
            self.health.locked_out.set()

    async def opened(self, within_s: float) -> None:
        """Returns when the next call may be made, or after within_s seconds."""
        if self._mending is not None:
            await asyncio.wait([self._mending], timeout=within_s)

    def close(self) -> None:
        """Let go of it; the connection is its owner's to close."""
        if self._mending is not None:
            self._mending.cancel()
        self.health.closed(self)
