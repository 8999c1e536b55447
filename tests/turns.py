"""Who runs beside whom. Tests run at the same time, but one that measures, or needs the whole machine to keep its times
(mark `alone`), runs while no other does.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, lockf
from pathlib import Path

import pytest


@contextmanager
def turn(test: pytest.Item) -> Iterator[None]:
    """This test's turn among all of this checkout. Record locks: no child of a test holds one on."""
    mark = hashlib.sha256(f"{os.getuid()} {test.config.rootpath}".encode()).hexdigest()[:12]
    place = Path(tempfile.gettempdir()) / f"windlass-turns-{mark}"
    with place.with_suffix(".queue").open("a+") as queue, place.with_suffix(".running").open("a+") as running:
        lockf(queue, LOCK_EX)  # who waits to be alone lets nobody past
        lockf(running, LOCK_EX if test.get_closest_marker("alone") else LOCK_SH)
        lockf(queue, LOCK_UN)
        yield
