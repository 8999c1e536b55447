"""A container's log as a container runtime keeps it, and as the kubelet reads it.

Kept are lines of at most 16 KiB; a longer one, or one without its newline, is a partial one (P), else it is full (F).
Read with timestamps, only what begins a new line gets one, and whether a line is new is known of the log as a whole:
the reader of one stream alone meets lines without a timestamp, and some with one in the middle.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

_LONGEST = 16 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    stamp: str
    stream: str
    data: bytes


class CriLog:
    """One container's."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._open: dict[str, bytes] = {}
        self._more = asyncio.Event()
        self.closed = False
        self._last = 0

    def write(self, stream: str, data: bytes) -> None:
        """What the container printed."""
        rest = self._open.pop(stream, b"") + data
        while rest:
            end = rest.find(b"\n") + 1
            if not end and len(rest) <= _LONGEST:
                self._open[stream] = rest
                break
            cut = min(end or len(rest), _LONGEST)
            self._add(stream, rest[:cut])
            rest = rest[cut:]
        self._more.set()

    def close(self) -> None:
        """The container has ended."""
        for stream, rest in self._open.items():
            self._add(stream, rest)
        self._open.clear()
        self.closed = True
        self._more.set()

    def turn(self) -> None:
        """Turn to a new file: what is in the old one can't be read any more."""
        self.entries.clear()

    def _add(self, stream: str, data: bytes) -> None:
        self._last = max(time.time_ns(), self._last + 1)
        whole, fraction = divmod(self._last, 10**9)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{fraction:09}Z"
        self.entries.append(Entry(stamp, stream, data))

    async def read(
        self, *, follow: bool, timestamps: bool, since: str, only: str | None, limit: int | None
    ) -> AsyncIterator[bytes]:
        """The pieces the kubelet would send. `since` is a moment in whole seconds."""
        entries, position, new_line, sent = self.entries, 0, True, 0
        while True:
            self._more.clear()
            for entry in entries[position:]:
                position += 1
                prefix = entry.stamp.encode() + b" " if timestamps and new_line else b""
                new_line = entry.data.endswith(b"\n")
                if entry.stamp[:19] < since[:19] or only not in (None, entry.stream):
                    continue
                piece = (prefix + entry.data)[: None if limit is None else limit - sent]
                sent += len(piece)
                yield piece
                if sent == limit:
                    return
            if not follow or self.closed:
                return
            if position == len(entries):
                await self._more.wait()
