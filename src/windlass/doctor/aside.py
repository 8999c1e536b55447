"""What may block: files on a disk or a share that does not answer."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ASIDE_S = 10.0


async def aside(work: Callable[[], T], within_s: float | None = None) -> T:
    """What `work` gives, from a thread of its own that is left behind where it hangs: the end of this process waits for
    no such thread, as it would for an executor's. Raises TimeoutError, and what `work` raises."""
    loop, found = asyncio.get_running_loop(), asyncio.Future[T]()

    def tell(answer: T | None, fault: BaseException | None) -> None:
        if found.done():
            return
        if fault is not None:
            found.set_exception(fault)
        else:
            found.set_result(answer)  # pyright: ignore[reportArgumentType] -- where nothing was raised it is a T

    def run() -> None:
        answer, fault = None, None
        try:
            answer = work()
        except Exception as raised:
            fault = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, answer, fault)

    threading.Thread(target=run, daemon=True, name="doctor").start()
    return await asyncio.wait_for(found, ASIDE_S if within_s is None else within_s)
