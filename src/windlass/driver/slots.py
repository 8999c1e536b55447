"""Slots: folders that processes run in, used again and again, so that a job without output touches no directory.

Making and removing files waits for the file system's own journal, which every commit of a database on the same disk
keeps busy; writing to files that are there does not. A slot holds `work` (the job's directory), `stdout`, `stderr`, and
`owner`, the attempt it was given to. It is given again only when its outputs are empty, its directory is empty, and
nobody else has an output open: a process that escaped its group must not write into another job's log.
"""

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

STREAMS = ("stdout", "stderr")
_KEPT = 64


@dataclass(slots=True)
class Slot:
    """One folder; its files are open here as long as it is known."""

    folder: str
    files: tuple[int, int]
    owner: int

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def size(self, stream: str) -> int:
        """Bytes the stream has, counted from its start even where they were freed."""
        return os.fstat(self.files[STREAMS.index(stream)]).st_size


class Slots:
    """All slots under one root."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._free: list[Slot] = []
        self._next = 0

    def take(self, owner: str) -> Slot:
        """A clean slot, marked with its owner in at most 64 bytes. Raises OSError."""
        slot = self._free.pop() if self._free else self._make()
        os.pwrite(slot.owner, owner.encode().ljust(64), 0)
        return slot

    def _make(self) -> Slot:
        os.makedirs(self._root, exist_ok=True)
        while True:
            folder = f"{self._root}/{self._next}"
            self._next += 1
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                os.mkdir(f"{folder}/work")
                return self._open(folder)

    @staticmethod
    def _open(folder: str) -> Slot:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        out, err = (os.open(f"{folder}/{stream}", flags, 0o600) for stream in STREAMS)
        return Slot(folder, (out, err), os.open(f"{folder}/owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def found(self) -> dict[str, Slot]:
        """Slots a former agent left in use, by owner. Each is shown once."""
        slots: dict[str, Slot] = {}
        if not os.path.isdir(self._root):
            return slots
        for name in os.listdir(self._root):
            slot = self._open(f"{self._root}/{name}")
            owner = os.pread(slot.owner, 64, 0).decode(errors="replace").strip()
            if owner and owner not in slots:
                slots[owner] = slot
            else:
                self._drop(slot)
        return slots

    def give_back(self, slot: Slot) -> None:
        """Done with: kept for the next if it is clean and ours alone, else removed."""
        if len(self._free) < _KEPT and self._clean(slot):
            os.pwrite(slot.owner, b" " * 64, 0)
            self._free.append(slot)
        else:
            self._drop(slot)

    @staticmethod
    def _clean(slot: Slot) -> bool:
        try:
            for fd in slot.files:
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # only granted to the file's sole opener
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                if os.fstat(fd).st_size:
                    os.ftruncate(fd, 0)
            return not os.listdir(slot.path("work"))
        except OSError:
            return False

    @staticmethod
    def _drop(slot: Slot) -> None:
        for fd in (*slot.files, slot.owner):
            os.close(fd)
        shutil.rmtree(slot.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the free ones; those in use stay for the next agent."""
        while self._free:
            self._drop(self._free.pop())
