"""Helpers every test level shares."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
#: The guard against hanging, in seconds: what has not come by then never will. No test measures with it.
HANG_S = 60.0


async def wait_until(predicate: Callable[[], T | Awaitable[T]], what: str) -> T:
    """Return the predicate's first truthy value. Raise AssertionError with `what` when none comes within HANG_S."""
    deadline = time.monotonic() + HANG_S
    while True:
        value = predicate()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {HANG_S:g} s in vain for: {what}; last seen: {value!r}")
        await asyncio.sleep(0.02)
