"""Contact: when this node last had a word with the cluster, and what the watchdog has ended since nobody heard it.

Contact is a beat that Redis has taken, or an exchange the API has answered. It is counted from before it was asked for,
since an agent that was frozen in between must not take the answer for news.
"""

import os
from pathlib import Path

import structlog

from windlass.core.ids import AttemptId
from windlass.watchdog.protocol import FENCED, LEASE
from windlass.worker import clock

log = structlog.get_logger("worker")


class Lease:
    """Writes the file the watchdog reads. `limit_s` is the age from which it ends what runs here."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self._folder, self._limit_s = folder, limit_s
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = self._open()
        self._last = _parsed(os.pread(self._fd, 32, 0))
        #: why the watchdog can't be told of contacts; empty: it can
        self.fault = ""
        self._fenced: frozenset[str] = frozenset()
        self._fenced_size = 0

    def _open(self) -> int:
        return os.open(self._folder / LEASE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def contact(self, asked_at: float) -> None:
        """Word was had, asked for at this moment of the worker's clock. One the watchdog can't be told of counts for
        nothing: it is going to end what runs here."""
        if asked_at > self._last or self._last > clock.now():  # the latter: of another boot
            try:
                self._write(asked_at)
            except OSError as error:
                self._fail(error)
                return
            self._last, self.fault = asked_at, ""

    def _write(self, moment: float) -> None:
        if os.fstat(self._fd).st_nlink == 0:  # somebody has removed it, and the watchdog looks for it by name
            fresh = self._open()
            os.close(self._fd)
            self._fd = fresh
        os.pwrite(self._fd, f"{moment:<31.3f}\n".encode(), 0)

    def _fail(self, error: OSError) -> None:
        if not self.fault:
            log.error("lease_not_written", error=str(error))
        self.fault = f"can't write worker.data: {error.strerror}"

    @property
    def age_s(self) -> float:
        """Since the last contact."""
        return max(0.0, clock.now() - self._last)

    @property
    def stale(self) -> bool:
        """Whether this node is cut off: nothing may start now."""
        return clock.now() - self._last > self._limit_s

    def ended_by_watchdog(self, attempt_id: AttemptId) -> bool:
        """Whether the watchdog has noted that it ends this attempt. It notes first and kills then."""
        try:
            path = self._folder / FENCED
            size = path.stat().st_size
            if size != self._fenced_size:
                self._fenced, self._fenced_size = frozenset(path.read_text(errors="replace").split()), size
        except FileNotFoundError:
            return False
        return attempt_id in self._fenced

    @property
    def why(self) -> str:
        """What is reported of what the watchdog ended."""
        return f"ended by the watchdog: {self.silence}"

    @property
    def silence(self) -> str:
        """What being cut off means."""
        return f"no word from Redis or the API for {self._limit_s:g} s"

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def moment(path: Path) -> float:
    """Of the last contact this file tells; 0 where it tells none."""
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return 0.0


def _parsed(raw: bytes) -> float:
    try:
        return float(raw)
    except ValueError:
        return 0.0
