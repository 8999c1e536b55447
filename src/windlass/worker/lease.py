"""Contact: when this node last had a word with the cluster, and what the watchdog has ended since nobody heard it.

Contact is a beat that Redis has taken, or an exchange the API has answered. It is counted from before it was asked for,
since an agent that was frozen in between must not take the answer for news.
"""

import os
from pathlib import Path

from windlass.core.ids import AttemptId
from windlass.watchdog.protocol import FENCED, LEASE
from windlass.worker import clock


class Lease:
    """Writes the file the watchdog reads. `limit_s` is the age from which it ends what runs here."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self._folder, self._limit_s = folder, limit_s
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / LEASE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._last = _moment(os.pread(self._fd, 32, 0))
        self._fenced: frozenset[str] = frozenset()
        self._fenced_size = 0

    def contact(self, asked_at: float) -> None:
        """Word was had, asked for at this moment of the worker's clock."""
        if asked_at > self._last or self._last > clock.now():  # the latter: of another boot
            self._last = asked_at
            os.pwrite(self._fd, f"{asked_at:<31.3f}\n".encode(), 0)

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
                self._fenced, self._fenced_size = frozenset(path.read_text().split()), size
        except FileNotFoundError:
            return False
        return attempt_id in self._fenced

    @property
    def why(self) -> str:
        """What is reported of what it ended."""
        return f"ended by the watchdog: no word from Redis or the API for {self._limit_s:g} s"

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def _moment(raw: bytes) -> float:
    try:
        return float(raw)
    except ValueError:
        return 0.0
