"""Disks: files in memory, and an `os` that works on them. What was not synced may be gone after a power cut."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from itertools import count
from pathlib import PurePosixPath
from random import Random
from typing import Any

from tests.simulation.process import alive


@dataclass(eq=False)
class File:
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0


@dataclass
class Disk:
    """One host's."""

    files: dict[str, File] = field(default_factory=dict)
    full: bool = False
    was_full: bool = False
    #: what was given back while it was full, in bytes
    room: int = 0

    def take(self, size: int) -> None:
        """Room for so many bytes. Raises OSError when there is none."""
        if self.full and self.room < size:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room = max(self.room - size, 0)

    def power_cut(self, random: Random) -> None:
        """Of what was not synced, a part from the front is there."""
        for file in self.files.values():
            del file.data[random.randint(min(file.synced, len(file.data)), len(file.data)) :]
            file.synced = len(file.data)


@dataclass(frozen=True)
class Stat:
    st_size: int
    st_nlink: int = 1


@dataclass(frozen=True)
class Usage:
    free: int


@dataclass(frozen=True)
class Room:
    f_bavail: int
    f_frsize: int = 1
    f_files: int = 0
    f_favail: int = 0


class DiskPath(PurePosixPath):
    """A path on a simulated disk: `/HOST/...`."""

    @property
    def _files(self) -> dict[str, File]:
        return disk_of(str(self)).files

    def exists(self) -> bool:
        return len(self.parts) <= 2 or str(self) in self._files  # the root of a disk is always there

    def read_bytes(self) -> bytes:
        file = self._files.get(str(self))
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(self))
        return bytes(file.data)

    def read_text(self, errors: str = "strict") -> str:
        return self.read_bytes().decode(errors=errors)

    def write_text(self, text: str) -> int:
        return self.write_bytes(text.encode())

    def write_bytes(self, data: bytes) -> int:
        alive()
        disk_of(str(self)).take(len(data))
        self._files[str(self)] = File(bytearray(data), len(data))
        return len(data)

    def stat(self) -> Stat:
        return Stat(len(self.read_bytes()))

    def unlink(self, missing_ok: bool = False) -> None:
        alive()
        file = self._files.pop(str(self), None)
        if file is not None:
            disk_of(str(self)).room += len(file.data)
        elif not missing_ok:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(self))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        return


_disks: dict[str, Disk] = {}


def mount(name: str) -> DiskPath:
    """A fresh disk; its root."""
    _disks[name] = Disk()
    return DiskPath(f"/{name}")


def disk_of(path: str) -> Disk:
    return _disks[path.split("/", 2)[1]]


class Os:
    """In place of the module `os` where a worker writes files. Anything else is the real one's."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[File, Disk]] = {}
        self._numbers = count(1_000_000)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def getpid(self) -> int:
        return alive().pid

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        process, disk = alive(), disk_of(str(path))
        file = disk.files.get(str(path))
        if file is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
            file = disk.files[str(path)] = File()
        if flags & os.O_TRUNC:
            file.data.clear()
            file.synced = 0
        number = next(self._numbers)
        self._open[number] = (file, disk)
        process.at_end.append(lambda: self._open.pop(number, None) and None)
        return number

    def write(self, fd: int, data: bytes) -> int:
        alive()
        file, disk = self._open[fd]
        disk.take(len(data))
        file.data += data
        return len(data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        alive()
        file = self._open[fd][0]
        file.data[offset : offset + len(data)] = data
        return len(data)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(self._open[fd][0].data[offset : offset + size])

    def ftruncate(self, fd: int, size: int) -> None:
        del self._open[fd][0].data[size:]

    def fstat(self, fd: int) -> Stat:
        return Stat(len(self._open[fd][0].data))

    def statvfs(self, path: Any) -> Room:
        return Room(0 if disk_of(str(path)).full else 2**30)

    def fsync(self, fd: int) -> None:
        alive()
        file = self._open[fd][0]
        file.synced = len(file.data)

    fdatasync = fsync

    def replace(self, source: Any, target: Any) -> None:
        alive()
        files = disk_of(str(source)).files
        files[str(target)] = files.pop(str(source))

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)


class Shutil:
    """In place of `shutil`, as far as a worker asks how much room there is."""

    def disk_usage(self, path: Any) -> Usage:
        return Usage(0 if disk_of(str(path)).full else 2**30)


class Fcntl:
    """In place of `fcntl`: the world starts no two agents on one folder."""

    LOCK_EX = LOCK_NB = LOCK_UN = 0

    def flock(self, fd: int, operation: int) -> None:
        return
