"""What every long-running process has in common: a loop, signals, an end.

SIGTERM or SIGINT asks it to stop, and a stop asked for is a success; a second signal ends it at once with 128 + the
signal's number. Some launchers send one wish twice, to the process and to its group, so an echo does not count.
Faults leave as exceptions, out of their groups, for the command line to report.
"""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop

from windlass.errors import WindlassError

_ECHO_S = 0.3

Main = Callable[[asyncio.Event], Awaitable[None]]


def run(main: Main, forced: Callable[[], None] = lambda: None) -> None:
    """Run main until it returns; the event it gets says when it should. A second signal calls `forced` before it ends.

    Raises what main raises; of a group the first error of ours in it.
    """

    async def body() -> None:
        stop = asyncio.Event()
        first_at = 0.0

        def on_signal(number: int) -> None:
            nonlocal first_at
            if not stop.is_set():
                first_at = time.monotonic()
                stop.set()
            elif time.monotonic() - first_at > _ECHO_S:
                forced()
                os._exit(128 + number)

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
        await main(stop)

    # What is loaded by now stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(body())
    except ExceptionGroup as group:
        raise _first_of_ours(group) or group from group


def _first_of_ours(error: Exception) -> WindlassError | None:
    if isinstance(error, ExceptionGroup):
        inner = cast("ExceptionGroup[Exception]", error).exceptions
        return next(filter(None, map(_first_of_ours, inner)), None)
    return error if isinstance(error, WindlassError) else None
