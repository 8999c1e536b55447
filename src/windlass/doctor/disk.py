"""Disks: whether what is kept on this host has room, and is open to who keeps it."""

import os
from collections.abc import Iterable
from pathlib import Path

from windlass.core.quantity import show_size
from windlass.doctor.findings import Notes

#: Less than this share, and less than this many bytes, free is told; below the second number nothing new begins.
LITTLE, LITTLE_BYTES, LEAST_BYTES = 0.1, 5 * 2**30, 256 * 2**20


def examine(folders: Iterable[tuple[str, Path]], notes: Notes) -> None:
    """Look at the room of each folder, by the name it has in settings; those on one disk are told together."""
    disks: dict[int, tuple[Path, list[str]]] = {}
    for name, folder in folders:
        there = existing(folder)
        disks.setdefault(there.stat().st_dev, (there, []))[1].append(name)
    for folder, names in disks.values():
        _room(folder, ", ".join(names), notes)


def examine_access(folders: Iterable[tuple[str, Path]], notes: Notes) -> None:
    """Whether this user may make files in each folder, or make the folder."""
    for name, folder in folders:
        if not os.access(existing(folder), os.W_OK | os.X_OK):
            told = f"{name} {str(folder)!r} is not open to this user"
            notes.note("access", told, "run this as the user that keeps it")


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there for all this user can see."""
    while not os.path.exists(folder):  # Path.exists raises where a folder above is closed
        folder = folder.parent
    return folder


def _room(folder: Path, names: str, notes: Notes) -> None:
    disk = os.statvfs(folder)
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    told = f"{names}: {show_size(free)} of {show_size(size)} free at {str(folder)!r}"
    fix = "give the disk room: remove images and jobs nobody needs (`docker image prune`, `windlass rm`), or enlarge it"
    notes.facts[names] = {"folder": str(folder), "free_bytes": free, "size_bytes": size, "free_files": disk.f_favail}
    if free < LEAST_BYTES:
        notes.error("room", told, fix)
    elif free < LITTLE_BYTES and free < LITTLE * size:
        notes.warn("room", told, fix)
    else:
        notes.ok("room", told)
    if disk.f_files and disk.f_favail < LITTLE * disk.f_files / 2:
        notes.warn("files", f"{names}: only {disk.f_favail} of {disk.f_files} files can still be made", fix)
