"""The hub: one reader of the news stream per API process, and everyone here who waits for something.

News are hints. Whoever waits looks at the ledger when woken, and every POLL_S seconds anyway.
"""

import asyncio
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager, suppress

from windlass.stream import wire
from windlass.stream.consume import NewsReader
from windlass.stream.produce import StreamDown

POLL_S = 1.0
BLOCK_S = 2.0


class Hub:
    """Topics are job ids, attempt ids, or EVENTS."""

    EVENTS = "events"

    def __init__(self, reader: NewsReader[wire.News]) -> None:
        self._reader = reader
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.closing = False

    async def run(self) -> None:
        """Read news until cancelled."""
        while True:
            try:
                news = await self._reader.read(BLOCK_S)
            except StreamDown:
                continue
            for message in news:
                match message:
                    case wire.Ended():
                        self.wake(*message.job_ids)
                    case wire.Output():
                        self.wake(*message.attempt_ids)
                    case wire.Happened():
                        self.wake(self.EVENTS)

    @property
    def listeners(self) -> int:
        """Topics that somebody waits for."""
        return len(self._waiting)

    def wake(self, *topics: str) -> None:
        """Wake whoever waits for these."""
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    def close(self) -> None:
        """Wake everyone for the last time: streams end, so that the server can."""
        self.closing = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextmanager
    def listen(self, *topics: str) -> Generator["Listener"]:
        """A listener for these topics; begin to listen, then look, then wait."""
        event = asyncio.Event()
        for topic in topics:
            self._waiting[topic].add(event)
        try:
            yield Listener(event)
        finally:
            for topic in topics:
                self._waiting[topic].discard(event)
                if not self._waiting[topic]:
                    del self._waiting[topic]


class Listener:
    """Wakes at news of its topics."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, timeout_s: float = POLL_S) -> bool:
        """Until there is news, or timeout_s seconds have passed. Whether there was news."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        heard = self._event.is_set()
        self._event.clear()
        return heard
