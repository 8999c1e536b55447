"""Helpers every test level shares."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
#: By how much longer than on a quiet machine is waited for what must come: more on one whose cores others use, too.
PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))


async def wait_until(predicate: Callable[[], T | Awaitable[T]], what: str, timeout: float = 30.0) -> T:
    """The predicate's first truthy value; fails with `what` after timeout seconds, times PATIENCE."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = predicate()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for: {what}; last seen: {value!r}")
        await asyncio.sleep(0.02)
