"""The journal: what this node was told to run and how it ended, on its own disk, so that no outcome is lost between
an exit and the ledger. One append-only file of JSON lines; rewritten small when much of it is settled.

An outcome is written before it is reported, and on the disk (fsync) before what is left of the attempt is removed.
An entry goes when the ledger says it has the outcome.
"""

import asyncio
import errno
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from windlass.core.ids import AttemptId
from windlass.core.states import Cause
from windlass.stream.wire import Launch
from windlass.worker import clock

log = structlog.get_logger("worker")

COMPACT_BYTES = 4 * 2**20
#: How many that are over are remembered.
TOMBSTONES = 10_000
#: Room on the disk that is given up for the last lines of what runs.
RESERVE_BYTES = 64 * 2**10


class Ended(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an attempt ended, with moments of this boot's clock."""

    at: float
    cause: Cause | None = None
    exit_code: int | None = None
    message: str = ""
    started_at: float | None = None


class _Line(msgspec.Struct, omit_defaults=True):
    boot: str | None = None
    launch: Launch | None = None
    received_at: float = 0.0
    rebooted: bool = False
    attempt: AttemptId | None = None
    ended: Ended | None = None
    stop: tuple[Cause, str] | None = None
    forget: tuple[AttemptId, ...] = ()


class Entry(msgspec.Struct):
    """One attempt this node knows."""

    launch: Launch
    received_at: float
    ended: Ended | None = None
    #: why it was to be stopped, once it was
    stop: tuple[Cause, str] | None = None
    #: whether this machine was started anew since
    rebooted: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class Journal:
    """Opened by one agent at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[AttemptId, Entry] = {}
        #: the last ones that are over for good: an order to run one of them is an old one, come again
        self.gone: dict[AttemptId, None] = {}
        self._size = 0
        self._written = self._synced = 0
        self._syncing = asyncio.Lock()
        self._old: list[int] = []  # replaced files an fsync may still be at work on
        path.parent.mkdir(parents=True, exist_ok=True)
        self._torn = False
        self._spare = path.with_suffix(".spare")
        self._reserved = False
        self._load()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._rewrite()
        except OSError as error:  # what runs here is to be taken over all the same
            log.error("journal_not_written", error=str(error))
        self._reserve()

    def _load(self) -> None:
        """Replays the file; a torn line is left out. Moments of an earlier boot mean nothing now: they become this
        one's."""
        if not self._path.exists():
            return
        boot = None
        data = self._path.read_bytes()
        self._size, self._torn = len(data), bool(data) and not data.endswith(b"\n")
        for raw in data.splitlines():
            try:
                line = _decode(raw)
            except msgspec.MsgspecError:
                continue
            if line.boot is not None:
                boot = line.boot
            if line.launch is not None:
                self.entries[line.launch.attempt_id] = Entry(line.launch, line.received_at, rebooted=line.rebooted)
            if line.attempt is not None and line.ended is not None and line.attempt in self.entries:
                self.entries[line.attempt].ended = line.ended
            if line.attempt is not None and line.stop is not None and line.attempt in self.entries:
                self.entries[line.attempt].stop = line.stop
            self._bury(line.forget)
        if boot != clock.boot_id():
            now = clock.now()
            for entry in self.entries.values():
                entry.received_at, entry.rebooted = now, True
                if entry.ended is not None:
                    entry.ended = msgspec.structs.replace(entry.ended, at=now, started_at=None)

    def _write(self, lines: Iterable[_Line]) -> None:
        data = (b"\n" if self._torn else b"") + b"".join(_encode(line) + b"\n" for line in lines)
        written = os.write(self._fd, data)
        self._size += written
        self._written += 1
        self._torn = written < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, "the disk is full", str(self._path))

    def _reserve(self) -> None:
        """Take room for the lines that have to be written when there is no other."""
        if self._reserved:
            return
        try:
            self._spare.write_bytes(bytes(RESERVE_BYTES))
            self._reserved = True
        except OSError:
            self._spare.unlink(missing_ok=True)

    def _must(self, attempt_id: AttemptId, line: _Line) -> None:
        """Write what a launch that runs already leads to. With no room but the reserve's that is given up; with none at
        all the line is in memory alone."""
        try:
            try:
                self._write([line])
            except OSError as error:
                if error.errno != errno.ENOSPC or not self._reserved:
                    raise
                self._spare.unlink(missing_ok=True)
                self._reserved = False
                self._write([line])
        except OSError as error:
            log.error("journal_not_written", attempt_id=attempt_id, error=str(error))

    def launched(self, launches: Iterable[Launch]) -> None:
        """These were taken up. Raises OSError when the disk won't have it: then none was."""
        now = clock.now()
        fresh = [launch for launch in launches if launch.attempt_id not in self.entries]
        for launch in fresh:
            self.entries[launch.attempt_id] = Entry(launch, now)
        try:
            if fresh:
                self._write(_Line(launch=launch, received_at=now) for launch in fresh)
                self._reserve()
        except OSError:
            for launch in fresh:
                del self.entries[launch.attempt_id]
            raise

    def stopping(self, attempt_id: AttemptId, cause: Cause, message: str) -> None:
        """It is to end, and why: an agent that comes later must know it from a failure of the job's own."""
        entry = self.entries.get(attempt_id)
        if entry is not None and entry.stop is None:
            entry.stop = (cause, message)
            self._must(attempt_id, _Line(attempt=attempt_id, stop=entry.stop))

    def ended(self, attempt_id: AttemptId, ended: Ended) -> None:
        """This is how it ended. The first word counts. On a full disk it is kept in memory alone."""
        entry = self.entries[attempt_id]
        if entry.ended is None:
            entry.ended = ended
            self._must(attempt_id, _Line(attempt=attempt_id, ended=ended))

    def knows(self, attempt_id: AttemptId) -> bool:
        """Whether it is held here, or was not long ago."""
        return attempt_id in self.entries or attempt_id in self.gone

    def _bury(self, attempt_ids: Iterable[AttemptId]) -> None:
        for attempt_id in attempt_ids:
            self.entries.pop(attempt_id, None)
            self.gone[attempt_id] = None
        while len(self.gone) > TOMBSTONES:
            del self.gone[next(iter(self.gone))]

    def forget(self, attempt_ids: Iterable[AttemptId]) -> None:
        """The ledger has these."""
        known = tuple(a for a in attempt_ids if a in self.entries or a not in self.gone)
        self._bury(known)
        if not known:
            return
        try:
            self._write([_Line(forget=known)])
            if self._size > COMPACT_BYTES:
                self._rewrite()
        except OSError as error:
            log.error("journal_not_written", error=str(error))  # forgotten again when the ledger says so again

    async def sync(self) -> None:
        """Returns once all written so far is on the disk; callers at the same time share one fsync."""
        mark = self._written
        async with self._syncing:
            if self._synced >= mark:
                return
            mark = self._written
            await asyncio.get_running_loop().run_in_executor(None, os.fdatasync, self._fd)
            self._synced = mark
            while self._old:
                os.close(self._old.pop())

    def _rewrite(self) -> None:
        """A new file with only what is open, put in place at once."""
        fresh = self._path.with_suffix(".new")
        lines = [_Line(boot=clock.boot_id(), forget=tuple(self.gone))]
        for attempt_id, entry in self.entries.items():
            lines.append(_Line(launch=entry.launch, received_at=entry.received_at, rebooted=entry.rebooted))
            if entry.stop is not None or entry.ended is not None:
                lines.append(_Line(attempt=attempt_id, stop=entry.stop, ended=entry.ended))
        data = b"".join(_encode(line) + b"\n" for line in lines)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, "the disk is full", str(fresh))
            os.fsync(fd)
            os.replace(fresh, self._path)
        except OSError:
            os.close(fd)
            fresh.unlink(missing_ok=True)  # the old one still tells everything
            raise
        self._old.append(self._fd)
        self._fd, self._size, self._torn = fd, len(data), False
        self._synced = self._written

    def close(self) -> None:
        """Flush and close."""
        os.fdatasync(self._fd)
        for fd in (self._fd, *self._old):
            os.close(fd)
        self._old.clear()
