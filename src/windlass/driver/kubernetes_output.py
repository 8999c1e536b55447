"""Reading the logs of Pods: both streams at once, live, over whatever breaks.

Kubernetes keeps stdout and stderr apart, and gives them out apart only where its feature gate PodLogsQuerySplitStreams
is on (there since 1.32, off by default). Elsewhere the log is one, and is told as stdout.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from typing import Any

import structlog

from windlass.core.ids import AttemptId
from windlass.driver.base import Chunk, EngineUnavailable, Ticket
from windlass.driver.docker_logs import Mark, MarkBook
from windlass.driver.kubernetes_api import Api, ApiRefusal, pod
from windlass.driver.kubernetes_logs import LineCursor, chunks, since
from windlass.driver.kubernetes_pod import CONTAINER, pod_name
from windlass.driver.kubernetes_status import Pod
from windlass.driver.kubernetes_watch import Pods, Seen

log = structlog.get_logger("worker")

STREAMS = ("stdout", "stderr")
_SPLITS_SINCE = (1, 32)
_WAITING_CHUNKS = 16
_RETRY_S = 0.5
#: Seconds without a byte after which a stream of a Pod that has ended, or whose node is silent, is given up.
SILENT_S = 15.0
_MOST_FAILURES = 3


class Output:
    """Readers of any number of Pods."""

    def __init__(self, api: Api, pods: Pods) -> None:
        self._api, self._pods = api, pods
        self.version: tuple[int, int] = (0, 0)
        self._split: bool | None = None  # not known yet

    async def read(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """Output past `after`, until the Pod has ended and all is read, or it is gone."""
        seen = await self._started(ticket.attempt_id)
        if seen is None:
            return
        book = MarkBook(ticket.folder, first=1)
        marks = book.best(after)
        streams = STREAMS if await self._splits(seen) else STREAMS[:1]
        cursors = {name: LineCursor(name, marks.get(name, Mark()), after.get(name, 0)) for name in streams}
        ready = asyncio.Queue[Chunk | Exception | None](_WAITING_CHUNKS)
        end, name = asyncio.create_task(_given_up(self._pods, seen)), seen.pod.metadata.name
        readers = [
            asyncio.create_task(_Reader(self._api, name, end, cursor, len(streams) > 1).run(ready))
            for cursor in cursors.values()
        ]
        try:
            left = len(readers)
            while left:
                match await ready.get():
                    case None:
                        left -= 1
                    case Chunk() as chunk:
                        book.note(cursors.values())
                        yield chunk
                    case Exception() as fault:
                        raise fault
        finally:
            for task in (*readers, end):
                task.cancel()
            await asyncio.gather(*readers, end, return_exceptions=True)

    async def _started(self, attempt_id: AttemptId) -> Seen | None:
        """The Pod once it has a log; None when it never had one. Waits for a server that is away."""
        name = pod_name(attempt_id)
        while (seen := self._pods.seen(name)) is None:
            try:
                self._pods.expect(await self._api.call("GET", pod(name), Pod))
            except ApiRefusal as refusal:
                if refusal.status == 404:
                    return None
                raise EngineUnavailable(f"cannot look at {name}: {refusal.message}") from refusal
            except EngineUnavailable:
                await asyncio.sleep(_RETRY_S)
        return seen if await self._pods.until(seen, _has_log) else None

    async def _splits(self, seen: Seen) -> bool:
        """Whether the server gives out one stream alone. Older ones pass over the question. One that does not answer
        is asked again as long as there is hope; what is then left to read fails by itself."""
        if self.version < _SPLITS_SINCE:
            return False
        if self._split is None:
            hopeless = asyncio.create_task(_given_up(self._pods, seen))
            asking = asyncio.create_task(self._asked(seen.pod.metadata.name))
            try:
                await asyncio.wait((hopeless, asking), return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    await asyncio.wait((asking,), timeout=SILENT_S)
                self._split = await asking if asking.done() else None
            finally:
                hopeless.cancel()
                asking.cancel()
        return bool(self._split)

    async def _asked(self, name: str) -> bool | None:
        """The answer of the server; None when there is no log to ask about."""
        params = {"container": CONTAINER, "stream": "Stdout", "limitBytes": "1"}
        while True:
            try:
                await self._api.call("GET", pod(name, "/log"), params=params)
                return True
            except ApiRefusal as refusal:
                return False if refusal.status == 422 else None
            except EngineUnavailable:
                await asyncio.sleep(_RETRY_S)


class _Reader:
    """One stream of one Pod."""

    def __init__(self, api: Api, name: str, end: "asyncio.Task[None]", cursor: LineCursor, split: bool) -> None:
        self._api, self._name, self._end, self._cursor, self._split = api, name, end, cursor, split

    async def run(self, ready: "asyncio.Queue[Chunk | Exception | None]") -> None:
        """Read it to its end, and say so with a None, or with what went wrong."""
        try:
            await self._read_all(ready)
        except ApiRefusal as refusal:
            await ready.put(EngineUnavailable(f"the output can't be read: {refusal.message}"))
        else:
            await ready.put(None)

    async def _read_all(self, ready: "asyncio.Queue[Chunk | Exception | None]") -> None:
        failed = 0
        while True:
            last = self._end.done()
            try:
                async with asyncio.timeout(None) as limit:
                    async with _beside(self._soon(limit)):
                        async for chunk in self._read(follow=not last):
                            failed = 0
                            await ready.put(chunk)
                if last:
                    return
            except ApiRefusal as refusal:
                if refusal.status == 404 or self._end.done():
                    return  # the Pod is gone, or never had a log
            except (EngineUnavailable, TimeoutError) as fault:
                failed += self._end.done()
                if failed > _MOST_FAILURES:
                    log.warning("output_incomplete", pod=self._name, error=str(fault))
                    await ready.put(self._cursor.gap())
                    return
            await self._pause()
            self._cursor.rewind(self._cursor.mark())

    async def _soon(self, limit: asyncio.Timeout) -> None:
        """Follow no stream for long whose Pod has ended, or whose node says nothing: nobody may be there to end it."""
        await asyncio.wait((self._end,))
        limit.reschedule(asyncio.get_running_loop().time() + SILENT_S)

    async def _pause(self) -> None:
        if self._end.done():
            await asyncio.sleep(_RETRY_S)
        else:
            await asyncio.wait((self._end,), timeout=_RETRY_S)

    async def _read(self, *, follow: bool) -> AsyncIterator[Chunk]:
        """One answer of the log, from where the cursor stands."""
        params = {"container": CONTAINER, "timestamps": "true", "follow": str(follow).lower()}
        if self._split:
            params["stream"] = self._cursor.stream.capitalize()
        if from_second := since(self._cursor.mark()):
            params["sinceTime"] = from_second
        where = pod(self._name, "/log")
        async with self._api.stream(where, params, silent_s=None if follow else SILENT_S) as answer:
            async for chunk in chunks(answer.iter_any(), self._cursor):
                yield chunk


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Something runs while inside."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _given_up(pods: Pods, seen: Seen) -> None:
    """Return once it has ended, is gone, or its node has not said so for too long."""
    await pods.until(seen, lambda now: now.over or now.deleting)
    if not (seen.pod.over or seen.gone):
        grace_s = seen.pod.metadata.deletion_grace_period_seconds or 0
        await _within(grace_s + SILENT_S, pods.until(seen, lambda now: now.over))


async def _within(seconds: float, work: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work


def _has_log(pod: Pod) -> bool:
    return pod.state.running is not None or pod.over
