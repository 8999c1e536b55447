"""A Pod's output from the API server: by byte offset, without gap or repeat as far as the API goes.

The log comes as lines, each with the moment it was written; a moment is the only place one can go on from, and only to
the second. So a Mark (as for Docker) says "the line of this moment begins at this offset": what comes again before it
is passed over. Where the node has turned to a new log file meanwhile, the line of the mark is no longer there: then a
line of ours says that output is missing, and what follows counts on from it.
"""

import re
from collections.abc import AsyncIterator, Iterator

from windlass.driver.base import Chunk
from windlass.driver.docker_logs import CHUNK, Mark

#: The fixed-width time in front of each line.
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d)")
_LONGEST_STAMP = 35
MISSING = b"[windlass: output may be missing here; the node no longer has it]\n"


class LineCursor:
    """Where one stream is read: passes over what lies before its mark, hands out only what lies past `wanted`."""

    __slots__ = ("_last", "_mark", "_seeking", "_start", "at", "stream", "wanted")

    def __init__(self, stream: str, mark: Mark, wanted: int) -> None:
        self.stream, self.wanted = stream, wanted
        self.rewind(mark)

    def rewind(self, mark: Mark) -> None:
        """Read again from this mark; what was handed out already stays so."""
        self._mark, self._last, self._seeking = mark, "", bool(mark.since)
        self.at = self._start = mark.offset

    def mark(self) -> Mark:
        """The newest mark: the first line of the last moment."""
        return Mark(self._last, self._start) if self._last else self._mark

    def gap(self) -> Chunk:
        """What says that the rest can't be read."""
        begin, self.wanted = self.wanted, self.wanted + len(MISSING)
        return Chunk(self.stream, begin, MISSING)

    def take(self, stamp: str, data: bytes) -> bytes:
        """The part of this piece of a line that is new. Its end is at offset `wanted` then."""
        lost = b""
        if self._seeking:
            if stamp < self._mark.since:
                return b""
            self._seeking = False
            if stamp > self._mark.since:
                lost, self.at = MISSING, self.wanted
        if stamp != self._last:
            self._last, self._start = stamp, self.at + len(lost)
        data = lost + data
        begin, self.at = self.at, self.at + len(data)
        if self.at <= self.wanted:
            return b""
        fresh = data[max(0, self.wanted - begin) :]
        self.wanted = self.at
        return fresh


def since(mark: Mark) -> str:
    """The sinceTime that brings back the mark's line: the API server takes whole seconds."""
    return mark.since[:19] + mark.since[29:] if mark.since else ""


class Lines:
    """Cuts one answer into stamped pieces of lines, and those into chunks of at most 64 KiB."""

    def __init__(self, cursor: LineCursor) -> None:
        self._cursor = cursor
        self._rest = b""
        self._stamp = ""
        self._inside = False  # a line whose stamp has been read

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks these bytes bring."""
        fresh = bytearray()
        begin = self._cursor.wanted
        for stamp, piece in self._pieces(data):
            fresh += self._cursor.take(stamp, piece)
        for start in range(0, len(fresh), CHUNK):
            yield Chunk(self._cursor.stream, begin + start, bytes(fresh[start : start + CHUNK]))

    def close(self) -> Iterator[Chunk]:
        """What is left at the end of the answer: too short to hold a stamp, so it is none."""
        rest, self._rest = self._rest, b""
        begin = self._cursor.wanted
        if rest and (fresh := self._cursor.take(self._stamp, rest)):
            yield Chunk(self._cursor.stream, begin, fresh)

    def _pieces(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        buffer = self._rest + data if self._rest else data
        position, size = 0, len(buffer)
        self._rest = b""
        while position < size:
            if not self._inside:
                space = buffer.find(b" ", position, position + _LONGEST_STAMP + 1)
                if space < 0 and size - position <= _LONGEST_STAMP:
                    self._rest = buffer[position:]
                    return
                if space > 0 and _STAMP.fullmatch(buffer, position, space):
                    self._stamp, position = buffer[position:space].decode(), space + 1
                # Else the kubelet left it out, as it does behind the other stream's unfinished line.
                self._inside = True
                continue
            end = buffer.find(b"\n", position) + 1
            self._inside = end == 0
            piece = buffer[position : end or size]
            yield self._stamp, piece
            position += len(piece)


async def chunks(answer: AsyncIterator[bytes], cursor: LineCursor) -> AsyncIterator[Chunk]:
    """All of one answer, from where the cursor stands."""
    lines = Lines(cursor)
    async for piece in answer:
        for chunk in lines.feed(piece):
            yield chunk
    for chunk in lines.close():
        yield chunk
