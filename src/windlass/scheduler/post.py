"""The post: what workers and the API tell the leader, over the stream, and over the exchange where that fails.

Both bring the same messages, and neither may be trusted to bring them once, in order, or at all. They differ in what
silence means: the stream was heard to its end only if a read took all there was; the exchange is heard while somebody
is heard over it.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from windlass import metrics
from windlass.repairs import repaired
from windlass.scheduler.desk import Desk
from windlass.scheduler.watch import Watch
from windlass.store import inbox
from windlass.stream import wire
from windlass.stream.consume import DELIVERIES, SUSPECT
from windlass.stream.outage import StreamDown

log = structlog.get_logger("scheduler")

#: Seconds between two looks into the inbox: in peace, while letters come or the stream is broken, and in a hurry.
CALM_S, ALERT_S, BUSY_S = 1.0, 0.25, 0.1
#: Letters this many seconds apart, at most, mean that workers are heard over the exchange.
HEARD_S = 2.0


@dataclass(frozen=True, slots=True)
class Mail:
    """What came in one round."""

    streamed: list[wire.Report] = field(default_factory=lambda: list[wire.Report]())
    #: whether nothing newer waited behind what was streamed
    current: bool = False
    letters: list[wire.Report] = field(default_factory=lambda: list[wire.Report]())

    @property
    def all(self) -> list[wire.Report]:
        return self.streamed + self.letters


@dataclass(slots=True)
class Post:
    """Fetches; `done` lets go of what was fetched, once it is committed."""

    desk: Desk
    _reader: wire.Reader[wire.Report] = field(default_factory=wire.reports)
    _taken: list[int] = field(default_factory=lambda: list[int]())
    _looked: float = 0.0
    _pause: float = CALM_S
    _last_letter: float = -HEARD_S

    async def fetch(self, watch: Watch, within_s: float) -> Mail:
        """What has come; waits at most within_s seconds for the first."""
        streamed: list[wire.Report] = []
        reader = self.desk.reader
        with suppress(StreamDown):  # told by its line; the exchange stands in
            streamed = await reader.read(max(0.001, min(within_s, self._looked + self._pause - time.monotonic())))
        letters = await self._letters()
        by_stream = reader.drained and not self.desk.producer.down  # where we can't write, nobody can
        by_exchange = self.desk.deaf and time.monotonic() - self._last_letter <= HEARD_S
        if not (by_stream or by_exchange):
            watch.deaf()
        return Mail(streamed, reader.drained, letters)

    async def _letters(self) -> list[wire.Report]:
        now = time.monotonic()
        if now - self._looked < self._pause:
            return []
        self._looked = now
        found = await inbox.take(self.desk.conn, term=self.desk.term, suspect=SUSPECT)
        parked = [letter.id for letter in found if letter.taken > DELIVERIES]
        if parked:
            log.error("letters_parked", ids=parked)
            await inbox.clear(self.desk.conn, parked, term=self.desk.term)
            repaired(metrics.POISON_ENTRY, len(parked))
        self._taken = [letter.id for letter in found if letter.id not in parked]
        messages = self._reader.read([letter.body for letter in found if letter.id not in parked])
        if found:
            self._last_letter = now
        urgent = any(not isinstance(message, wire.Beat) for message in messages)
        alert = self.desk.deaf or now - self._last_letter < HEARD_S
        self._pause = BUSY_S if urgent else ALERT_S if alert else CALM_S
        return messages

    async def done(self) -> None:
        """All that was fetched is committed."""
        if self._taken:
            taken, self._taken = self._taken, []
            await inbox.clear(self.desk.conn, taken, term=self.desk.term)
