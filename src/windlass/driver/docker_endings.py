"""Who has ended: one event stream for all containers of this node, and a look at the whole list every 2 seconds.

The stream makes it quick, the list makes it sure: an event that never came delays an ending, and loses none. Here too
is known when the engine was away, so that what it took down with it is not charged to the job.
"""

import asyncio
from collections.abc import Mapping

import aiodocker
import msgspec

from windlass.driver.base import EngineUnavailable
from windlass.driver.docker_engine import CALL_S, Engine, filters
from windlass.driver.taken_down import TICK_S, Outages

SWEEP_S = 2.0
_SWEEP_DEADLINE_S = 10.0
_RECONNECT_S = 0.3
_ALIVE = ["created", "running", "paused", "restarting"]


class _Actor(msgspec.Struct):
    attributes: dict[str, str] = msgspec.field(name="Attributes", default_factory=dict[str, str])


class _Event(msgspec.Struct):
    actor: _Actor = msgspec.field(name="Actor", default_factory=_Actor)


class Listed(msgspec.Struct):
    """One row of the Engine's container list."""

    names: list[str] = msgspec.field(name="Names")
    state: str = msgspec.field(name="State")
    labels: dict[str, str] = msgspec.field(name="Labels", default_factory=dict[str, str])


class Endings:
    """Marks expected containers, by name, as ended or gone. `labels` choose the containers that are ours."""

    def __init__(self, engine: Engine, labels: Mapping[str, str]) -> None:
        self._engine = engine
        self._labels = [f"{key}={value}" for key, value in labels.items()]
        self._expected: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.outages = Outages()

    def open(self) -> None:
        """Start to listen and to look."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(work()) for work in (self._listen, self._look, self._tick)]

    async def close(self) -> None:
        """Stop all that."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def expect(self, name: str) -> asyncio.Event:
        """Set once the container has ended or is gone. The same event until `forget`."""
        return self._expected.setdefault(name, asyncio.Event())

    def forget(self, name: str) -> None:
        """No longer watch it, and let go whoever waits for its end: nothing would tell them."""
        if ended := self._expected.pop(name, None):
            ended.set()

    async def listed(self, *, states: list[str] | None = None) -> list[Listed]:
        """Our containers, of these states or of any. Raises EngineUnavailable."""
        wanted = filters(label=self._labels, **({"status": states} if states else {}))
        params = {"all": "1", "filters": wanted}
        return await self._engine.call(
            "GET", "/containers/json", list[Listed], params=params, deadline_s=_SWEEP_DEADLINE_S
        )

    async def remembers_start(self, name: str, started: float, ended: float) -> bool:
        """Whether the engine that runs now has surely started this container (moments of its clock, in seconds): its
        last 256 events are kept in its memory alone."""
        asked = {"since": f"{started - 1:.3f}", "until": f"{ended + 1:.3f}"}
        wanted = filters(type=["container"], event=["start"], container=[name])
        try:
            async with self._engine.stream("GET", "/events", {**asked, "filters": wanted}, CALL_S) as events:
                return bool((await events.read()).strip())
        except (aiodocker.DockerError, EngineUnavailable):
            return False

    async def _listen(self) -> None:
        wanted = filters(type=["container"], event=["die", "destroy"], label=self._labels)
        while True:
            try:
                async with self._engine.stream("GET", "/events", {"filters": wanted}) as events:
                    await self._sweep()  # what ended while nobody listened
                    async for line in events:
                        self._mark(line)
            except (EngineUnavailable, aiodocker.DockerError, msgspec.DecodeError):
                pass
            self.outages.away()  # an engine that stays never ends this stream
            await asyncio.sleep(_RECONNECT_S)

    def _mark(self, line: bytes) -> None:
        name = msgspec.json.decode(line, type=_Event).actor.attributes.get("name", "")
        if ended := self._expected.get(name):
            ended.set()

    async def _tick(self) -> None:
        while True:
            self.outages.tick()
            await asyncio.sleep(TICK_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            if self._expected:
                try:
                    await self._sweep()
                except (EngineUnavailable, aiodocker.DockerError, msgspec.DecodeError):
                    continue

    async def _sweep(self) -> None:
        expected = dict(self._expected)  # as it was before the list was asked for: a later one may be missing in it
        alive = {name.removeprefix("/") for row in await self.listed(states=_ALIVE) for name in row.names}
        self.outages.answered()
        for name, ended in expected.items():
            if name not in alive:
                ended.set()
