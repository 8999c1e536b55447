"""What becomes of this node's Pods: a list, then a watch from there on, then both again, for ever.

A watch makes it quick, the list makes it sure: whatever ends a watch (a dropped line, an API server that restarts, 410
Gone because history is over), the next list tells what was missed. A Pod missing in a list is gone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec
import structlog

from windlass.driver.base import EngineUnavailable
from windlass.driver.kubernetes_api import Api, ApiRefusal
from windlass.driver.kubernetes_status import Pod

log = structlog.get_logger("worker")

#: Seconds one watch lasts at most; then a new list makes sure that nothing was missed.
WATCH_S = 60
_SILENT_S = WATCH_S + 15.0
_RETRY_FIRST_S, _RETRY_MOST_S = 0.3, 5.0


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class PodList(msgspec.Struct):
    """The answer to a list."""

    items: list[Pod]
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_event = msgspec.json.Decoder(_Event).decode
_pod = msgspec.json.Decoder(Pod).decode


class WatchOver(Exception):
    """The server ended the watch with an error, such as 410 Gone."""


@dataclass(slots=True)
class Seen:
    """The last that was seen of a Pod, and whether it is gone."""

    pod: Pod
    gone: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)


class Pods:
    """Follows the Pods it is told to, among those the selector finds."""

    def __init__(self, api: Api, selector: str) -> None:
        self._api, self._selector = api, selector
        self._known: dict[str, Seen] = {}
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to follow."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def seen(self, name: str) -> Seen | None:
        """What is known of it; None when it is not followed."""
        return self._known.get(name)

    def expect(self, pod: Pod) -> Seen:
        """Follow this one from here on."""
        return self._known.setdefault(pod.metadata.name, Seen(pod))

    def forget(self, name: str) -> None:
        """Follow it no more; who waits for it learns that it is gone."""
        self._lose(name)
        self._known.pop(name, None)

    async def until(self, seen: Seen, done: Callable[[Pod], bool]) -> bool:
        """Wait until the Pod is so, or is gone. Whether it is so."""
        while not done(seen.pod):
            if seen.gone:
                return False
            seen.bell.clear()
            await seen.bell.wait()
        return True

    async def listed(self) -> PodList:
        """All of them, now. Raises EngineUnavailable."""
        try:
            return await self._api.call("GET", "/pods", PodList, params={"labelSelector": self._selector})
        except ApiRefusal as refusal:
            raise EngineUnavailable(f"cannot list Pods: {refusal.message}") from refusal

    async def _follow(self) -> None:
        pause = _RETRY_FIRST_S
        while True:
            try:
                version = await self._list_all()
                pause = _RETRY_FIRST_S
                await self._watch(version)
                continue  # it ended as it should
            except (EngineUnavailable, ApiRefusal, WatchOver, msgspec.DecodeError) as fault:
                log.info("pods_watch_again", why=str(fault))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _RETRY_MOST_S)

    async def _list_all(self) -> str:
        before = list(self._known)  # as it was before the list was asked for: a later one may be missing in it
        answer = await self.listed()
        found = {pod.metadata.name: pod for pod in answer.items}
        for pod in answer.items:
            self._note(pod)
        for name in before:
            if name not in found:
                self._lose(name)
        return answer.metadata.resource_version

    async def _watch(self, version: str) -> None:
        params = {
            "labelSelector": self._selector,
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
        }
        async with self._api.stream("/pods", params, silent_s=_SILENT_S) as answer:
            async for line in _lines(answer.iter_any()):
                self._mark(_event(line))

    def _mark(self, event: _Event) -> None:
        if event.type == "ERROR":
            raise WatchOver(bytes(event.object).decode(errors="replace")[:200])
        pod = _pod(event.object)
        self._note(pod)
        if event.type == "DELETED":
            self._lose(pod.metadata.name)

    def _note(self, pod: Pod) -> None:
        if (seen := self._known.get(pod.metadata.name)) and not seen.gone:
            seen.pod = pod
            seen.bell.set()

    def _lose(self, name: str) -> None:
        if seen := self._known.get(name):
            seen.gone = True
            seen.bell.set()


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines, however long: a Pod with a large environment exceeds what a stream reader takes for one."""
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        if b"\n" in piece:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                if line.strip():
                    yield line
