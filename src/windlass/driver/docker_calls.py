"""Two ways to wait: no longer than that, and to the end whatever happens."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


async def within(seconds: float, event: asyncio.Event) -> None:
    """Until the event is set, or the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def unbroken(request: Coroutine[Any, Any, object]) -> None:
    """Make the call. A request under way can't be taken back: when we are cancelled it is seen to its end first,
    so that what it made is there to be removed."""
    call = asyncio.create_task(request)
    try:
        await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()
        raise
