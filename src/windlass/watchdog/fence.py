"""The fence: nothing of this node runs on once the cluster may have given it up and started it elsewhere."""

import contextlib
import os
import time

from windlass.watchdog import engine
from windlass.watchdog.protocol import FENCED, LEASE

#: What a look at the containers found: its exit code, for a child of ours does it, that may hang.
NONE, SOME, AWAY = 0, 1, 2
_CHILD_S = 30
_MOST_NOTES = 2**20  # bytes


def now() -> float:
    """Seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Reads the lease, in the working directory `folder` (a descriptor); notes what is ended."""

    def __init__(self, folder: int, limit_s: float) -> None:
        self._folder, self.limit_s = folder, limit_s
        self._lease, self._last = b"", now()
        self._noted: set[str] = set()
        self._trim()

    def _trim(self) -> None:
        """Of very many notes the old ones go: whom they were for has read them."""
        with contextlib.suppress(OSError):
            fd = os.open(FENCED, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                if os.fstat(fd).st_size > _MOST_NOTES:
                    latest = os.pread(fd, _MOST_NOTES, os.fstat(fd).st_size - _MOST_NOTES // 2)
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, latest.partition(b"\n")[2], 0)
            finally:
                os.close(fd)

    def left_s(self) -> float:
        """Seconds until this node counts as cut off; below 0 it does. Without a lease: from our start."""
        moment, lease = now(), self._read()
        if lease != self._lease:
            self._lease = lease
            with contextlib.suppress(ValueError):
                self._last = min(float(lease), moment)  # one of another boot may lie ahead
        return self._last + self.limit_s - moment

    def _read(self) -> bytes:
        try:
            fd = os.open(LEASE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                return os.read(fd, 32)
            finally:
                os.close(fd)
        except OSError:
            return self._lease

    def note(self, attempts: "list[str]") -> None:
        """These are about to be ended: on the disk before they are. A disk that won't have it saves nobody."""
        fresh = [attempt for attempt in attempts if attempt not in self._noted]
        if not fresh:
            return
        self._noted.update(fresh)
        try:
            fd = os.open(FENCED, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
            try:
                os.write(fd, "".join(attempt + "\n" for attempt in fresh).encode())
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            pass

    def look(self, address: str, labels: "list[str]", *, end: bool) -> int:
        """Whether containers of ours run, and end them. The process id of the child that does it; its exit code tells
        what it found."""
        pid = os.fork()
        if pid == 0:
            code = AWAY
            try:
                code = self._look(address, labels, end)
            finally:
                os._exit(code)
        return pid

    def _look(self, address: str, labels: "list[str]", end: bool) -> int:
        import signal

        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_CHILD_S)
        first = self._folder + 1
        os.closerange(3, self._folder)
        os.closerange(first, max(first, 1024))
        try:
            found = engine.alive(address, labels)
            if end:
                self.note(list(found.values()))
                engine.kill(address, list(found))
        except engine.EngineAway:
            return AWAY
        return SOME if found else NONE
