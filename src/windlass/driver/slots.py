"""Slots: folders that processes run in, used again and again, so that a job without output touches no directory.

Making and removing files waits for the file system's own journal, which every commit of a database on the same disk
keeps busy; writing to files that are there does not. A slot holds `work` (the job's directory), `stdout`, `stderr`, and
`owner`, the attempt it was given to. A job may do to it what the worker's user may: so it is given again only when it
is as it was made, and nobody else has an output open (a process that escaped its group must not write into another
job's log), and whatever is found in its place after a restart is no more than a folder to remove.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

STREAMS = ("stdout", "stderr")
_KEPT = 64
_NAMES = sorted((*STREAMS, "owner", "work"))


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

    def close(self) -> None:
        """Close its files."""
        for fd in (*self.files, self.owner):
            os.close(fd)


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
        """Raises OSError when a job has put something else in a file's place."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with contextlib.ExitStack() as opened:

            def file(name: str, more: int = 0) -> int:
                fd = os.open(f"{folder}/{name}", flags | more, 0o600)
                opened.callback(os.close, fd)
                return fd

            slot = Slot(folder, (file("stdout", os.O_APPEND), file("stderr", os.O_APPEND)), file("owner"))
            opened.pop_all()
        return slot

    def found(self) -> dict[str, Slot]:
        """Slots a former agent left in use, by owner. Each is shown once."""
        slots: dict[str, Slot] = {}
        if not os.path.isdir(self._root):
            return slots
        for name in os.listdir(self._root):
            folder, slot = f"{self._root}/{name}", None
            with contextlib.suppress(OSError):
                slot = self._open(folder)
                owner = os.pread(slot.owner, 64, 0).decode(errors="replace").strip()
                if owner and owner not in slots:
                    slots[owner] = slot
                    continue
            if slot is not None:
                slot.close()
            erase(folder)
        return slots

    def give_back(self, slot: Slot) -> bool:
        """Done with: kept for the next if it is clean and ours alone; else its folder is the caller's to erase."""
        if len(self._free) < _KEPT and _clean(slot):
            os.pwrite(slot.owner, b" " * 64, 0)
            self._free.append(slot)
            return True
        slot.close()
        return False

    def close(self) -> None:
        """Remove the free ones; those in use stay for the next agent."""
        while self._free:
            slot = self._free.pop()
            slot.close()
            erase(slot.folder)


def _clean(slot: Slot) -> bool:
    try:
        if not _as_made(slot):
            return False
        for fd in slot.files:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # only granted to the file's sole opener
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            if os.fstat(fd).st_size:
                os.ftruncate(fd, 0)
    except OSError:
        return False
    return True


def _as_made(slot: Slot) -> bool:
    """The same files under the same names, nothing beside them, nothing left in the work folder."""
    if sorted(os.listdir(slot.folder)) != _NAMES:
        return False
    for name, fd in zip((*STREAMS, "owner"), (*slot.files, slot.owner), strict=True):
        there, ours = os.lstat(slot.path(name)), os.fstat(fd)
        if not os.path.samestat(there, ours) or ours.st_nlink != 1 or stat.S_IMODE(ours.st_mode) != 0o600:
            return False
    work = os.lstat(slot.path("work")).st_mode
    return stat.S_ISDIR(work) and work & 0o700 == 0o700 and not os.listdir(slot.path("work"))


def erase(path: str) -> None:
    """Remove whatever is there, as far as we may: however deep it goes, and past folders a job has locked."""
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path)
    for tool in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        if not os.path.lexists(path):
            return
        with contextlib.suppress(OSError):
            subprocess.run([*tool, "--", path], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
