"""Whose data folder it is: one worker's at a time.

Below a shared folder (worker.shared_data) each worker takes the first numbered folder that nobody holds, so that one
description serves any number of them (docker-compose up --scale worker=3), each a node of its own. Who comes after one
that died takes its folder, and with it the node: its journal, and what still runs of it.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import msgspec

from windlass.core.ids import NODE, NodeId, is_id
from windlass.errors import SettingsError
from windlass.mint import new_id
from windlass.settings import Settings

_NODE_ID = "node_id"


@contextmanager
def held(settings: Settings) -> Generator[Settings]:
    """The settings with a data folder, and a name, that are this worker's alone as long as this lasts.

    Raises SettingsError.
    """
    mine = settings.worker
    mine.data.mkdir(parents=True, exist_ok=True)
    if mine.shared_data:
        number, fd = _first_free(mine.data)
        mine = msgspec.structs.replace(mine, data=mine.data / number, name=f"{mine.name}-{number}")
    elif (fd := _lock(mine.data)) is None:
        raise SettingsError(f"another worker uses worker.data {str(mine.data)!r}; give this one a folder of its own")
    try:
        yield msgspec.structs.replace(settings, worker=mine)
    finally:
        os.close(fd)


def _first_free(shared: Path) -> tuple[str, int]:
    for number in map(str, count(1)):
        (shared / number).mkdir(exist_ok=True)
        if (fd := _lock(shared / number)) is not None:
            return number, fd
    raise AssertionError("there is always a next number")


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder; None where another has it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def known_node(folder: Path) -> NodeId | None:
    """The node whose folder this is; None where it was never one."""
    path = folder / _NODE_ID
    known = path.read_text(errors="replace").strip() if path.exists() else ""
    return NodeId(known) if is_id(known, NODE) else None


def node_of(folder: Path) -> NodeId:
    """The node's identity, made once and kept in its data folder."""
    known = known_node(folder)
    if known is None:
        known = NodeId(new_id(NODE))
        (folder / _NODE_ID).write_text(known + "\n")
    return known
