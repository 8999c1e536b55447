"""Reading what a process prints, from a slot's files, and giving the disk its blocks back behind the reader."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from windlass.driver.base import Chunk
from windlass.driver.slots import STREAMS, Slot

CHUNK_BYTES = 64 * 1024
_PUNCH = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, linux/falloc.h


def chunks(slot: Slot, stream: str, offset: int, keep: int) -> Iterator[Chunk]:
    """What is there from offset on. Far enough behind the reader, the disk gets its blocks back; what was given back
    already is passed over, and so is what a reader more than `keep` behind will not want."""
    fd, size = slot.files[STREAMS.index(stream)], slot.size(stream)
    if offset < size:
        offset = _next_data(fd, offset)
    if offset >= keep and size - offset > keep:
        offset = size - keep
        _free(fd, offset)
    while offset < size:
        data = os.pread(fd, CHUNK_BYTES, offset)
        if not data:
            return
        yield Chunk(stream, offset, data)
        before, offset = offset, offset + len(data)
        if offset // 2**20 != before // 2**20:
            _free(fd, offset - offset % 2**20 - keep)


def _next_data(fd: int, offset: int) -> int:
    """The first place from offset on that is not a hole."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:  # a file system without holes, or nothing but a hole
        return offset


def _free(fd: int, end: int) -> None:
    """Give the file's first `end` bytes back to the disk; its size and offsets stay."""
    if end <= 0:
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate(fd, _PUNCH, ctypes.c_longlong(0), ctypes.c_longlong(end))
