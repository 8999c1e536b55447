"""A container's output from the Engine: stdout and stderr apart, by byte offset, without gap or repeat.

The Engine keeps output as messages with a time each and forgets the oldest ones past its cap, so bytes cannot simply be
counted from the start. A Mark says "the messages of this stream from this time on begin at this offset". While reading,
the newest mark is always known, so a dropped stream goes on from there; every few MiB one is kept in the attempt's
folder, so a restarted agent goes on from the newest that is not past what it has shipped.
"""

import re
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec

from windlass.driver.base import Chunk, EngineUnavailable

CHUNK = 64 * 1024
STREAMS = {1: "stdout", 2: "stderr"}
_HEADER = 8
_LONGEST_FRAME = 1024 * 1024
_MARK_EVERY = 4 * 1024 * 1024
_MARKS_KEPT = 64
_OUT_OF_ORDER_S = 2
_CLOCK_STEP_S = 0.01


class Mark(msgspec.Struct, frozen=True):
    """Messages of one stream from time `since` (seconds.nanoseconds; "" is the beginning) on begin at `offset`.

    `whole` is false inside a long line: the Engine gives all its parts the time of the first.
    """

    since: str = ""
    offset: int = 0
    whole: bool = True


Marks = dict[str, Mark]  # by stream


class Cursor:
    """Where one stream is read: drops what lies before its mark, and hands out only what lies past `wanted`."""

    __slots__ = ("_clock", "_mark", "_since", "_stamp", "_start", "_whole", "at", "stream", "wanted")

    def __init__(self, stream: str, mark: Mark, wanted: int) -> None:
        self.stream, self.wanted = stream, wanted
        self._clock = _wall_clock_lead()
        self.rewind(mark)

    def rewind(self, mark: Mark) -> None:
        """Read again from this mark; what was handed out already stays so."""
        self._mark, self._stamp, self._whole = mark, b"", True
        self.at = self._start = mark.offset
        self._since = moment(mark.since) if mark.since else None

    def mark(self) -> Mark:
        """The newest mark: the first message that has the time of the last one."""
        return Mark(seconds(self._stamp), self._start, self._whole) if self._stamp else self._mark

    def take(self, stamp: bytes, data: bytes) -> bytes:
        """The part of this message that is new. Its end is at offset `wanted` then."""
        if stamp < self._stamp and not self._clock_was_set_back():
            # Engine 20.10 tells the last few MiB again when it turns to a new log file.
            self.rewind(self.mark())
        if self._since is not None:
            if moment(seconds(stamp)) < self._since:
                return b""
            self._since = None
        whole = data.endswith(b"\n")
        if stamp != self._stamp:
            # Engine 20.10 drops the newline behind a line of over 16 KiB: a new time with no newline before it tells.
            dropped = b"" if self._whole else b"\n"
            self._stamp, self._start = stamp, self.at + len(dropped)
            data = dropped + data
        begin, self.at, self._whole = self.at, self.at + len(data), whole
        if self.at <= self.wanted:
            return b""
        fresh = data[self.wanted - begin :] if begin < self.wanted else data
        self.wanted = self.at
        return fresh

    def _clock_was_set_back(self) -> bool:
        """Whether older times are no sign of old messages, since the node's clock was turned back meanwhile."""
        before, self._clock = self._clock, _wall_clock_lead()
        return self._clock < before - _CLOCK_STEP_S


def _wall_clock_lead() -> float:
    return time.time() - time.monotonic()


class Demultiplexer:
    """Cuts the Engine's framed answer into chunks of at most 64 KiB, neighbours of one stream joined."""

    def __init__(self, cursors: Mapping[int, Cursor]) -> None:
        self._cursors = cursors
        self._rest = b""
        self._fault = ""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks these bytes complete. Raises EngineUnavailable where the Engine reports a fault of its own."""
        run = _Run()
        for kind, stamp, line in self._messages(data):
            cursor = self._cursors.get(kind)
            fresh = cursor.take(stamp, line) if cursor is not None else b""
            if cursor is None or not fresh:
                continue
            if run.pieces and not run.takes(cursor, fresh):
                yield run.chunk()
                run = _Run()
            run.add(cursor, fresh)
        if run.pieces:
            yield run.chunk()
        if self._fault:  # only now: what came before it has been taken and must not be lost
            raise EngineUnavailable(f"the Docker Engine broke off a log: {self._fault}")

    def _messages(self, data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """Kind, time and content of each whole frame; the rest waits for more."""
        buffer = self._rest + data if self._rest else data
        position, size_of_buffer = 0, len(buffer)
        while size_of_buffer - position >= _HEADER:
            kind, start = buffer[position], position + _HEADER
            end = start + int.from_bytes(buffer[position + 4 : start])
            if kind not in STREAMS or end - start > _LONGEST_FRAME:
                self._fault = repr(buffer[start:end][:200])
                return
            if end > size_of_buffer:
                break
            space = buffer.find(b" ", start, end)
            if space < 0:
                self._fault = "a message without a time"
                return
            yield kind, buffer[start:space], buffer[space + 1 : end]
            position = end
        self._rest = buffer[position:]


class _Run:
    """Neighbouring pieces of one stream, on their way to one chunk."""

    __slots__ = ("offset", "pieces", "size", "stream")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.stream, self.offset, self.size = "", 0, 0

    def takes(self, cursor: Cursor, piece: bytes) -> bool:
        return cursor.stream == self.stream and self.size + len(piece) <= CHUNK

    def add(self, cursor: Cursor, piece: bytes) -> None:
        if not self.pieces:
            self.stream, self.offset = cursor.stream, cursor.wanted - len(piece)
        self.pieces.append(piece)
        self.size += len(piece)

    def chunk(self) -> Chunk:
        return Chunk(self.stream, self.offset, b"".join(self.pieces))


class Reading(Protocol):
    """Where one stream is read."""

    stream: str
    at: int

    def mark(self) -> Mark:
        """The newest place one can go on from."""
        ...


class MarkBook:
    """Marks of one attempt in its folder: newest last, the oldest forgotten. Losing it costs a re-read, no output. The
    first is made after so many bytes."""

    def __init__(self, folder: Path, first: int = _MARK_EVERY) -> None:
        self._path = folder / "log-marks.json"
        self._marks = deque(self._load(), _MARKS_KEPT)
        self._due = first

    def best(self, after: Mapping[str, int]) -> Marks:
        """The newest marks that are not past these offsets."""
        for marks in reversed(self._marks):
            if all(mark.offset <= after.get(stream, 0) for stream, mark in marks.items()):
                return marks
        return {}

    def note(self, cursors: Collection[Reading]) -> None:
        """Keep where reading stands, if enough has been read since the last time."""
        read = sum(cursor.at for cursor in cursors)
        if read < self._due:
            return
        self._due = read + _MARK_EVERY
        self._marks.append({cursor.stream: cursor.mark() for cursor in cursors})
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(list(self._marks)))
            draft.replace(self._path)
        except OSError:
            return  # a full disk: the marks still serve from memory

    def _load(self) -> list[Marks]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Marks])
        except (OSError, msgspec.DecodeError):
            return []


_STAMP = re.compile(r"(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def seconds(stamp: bytes) -> str:
    """An RFC 3339 time as the seconds.nanoseconds the Engine's `since` wants, with no rounding."""
    match = _STAMP.fullmatch(stamp.decode("ascii", "replace"))
    if match is None:
        raise EngineUnavailable(f"the Docker Engine sent a log message without a time: {stamp[:64]!r}")
    whole, fraction, zone = match.groups()
    at = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    return f"{int(at.timestamp())}.{(fraction or '0').ljust(9, '0')[:9]}"


def moment(since: str) -> tuple[int, ...]:
    """A comparable form of seconds.nanoseconds."""
    return tuple(int(part) for part in since.split("."))


def read_from(marks: Iterable[Mark]) -> str:
    """The `since` that brings back all messages past these marks; "" for all there are.

    Messages are stored nearly in order of time, so nothing unread is much older than the newest one read, but for the
    parts of a long line.
    """
    known = [(moment(mark.since), mark.whole) for mark in marks if mark.since]
    if not known:
        return ""
    second, fraction = max(at for at, _ in known)
    floor = (second - _OUT_OF_ORDER_S, fraction)
    second, fraction = min([floor, *(at for at, whole in known if not whole)])
    return f"{second}.{fraction:09}"
