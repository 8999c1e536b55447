"""An asyncio event loop on virtual time: when nothing is ready, it is the next timer's moment at once.

Callbacks belong to the simulated process in whose context they were made. Those of a dead process never run; those of
a paused one run when it goes on, all of them late.
"""

import asyncio
import sys
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from tests.simulation.process import PROCESS, Killed, Process

#: A timer fires at most this much after its moment, as on a machine with other things to do.
LATE_S = 0.002


#: The context of what belongs to no process.
WORLD = Context()


class Handle:
    """What asyncio expects of a scheduled callback."""

    __slots__ = ("args", "callback", "context", "gone", "moment")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, moment: float) -> None:
        self.callback, self.args, self.context, self.moment, self.gone = callback, args, context, moment, False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self.moment


class Task(asyncio.Task[Any]):
    """A task whose place in a set follows from the seed, not from its address."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs callbacks one at a time in an order that follows from the seed."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0
        self.faults: list[str] = []
        self.steps = 0
        self._random = random.random
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = count()
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, copy_context() if context is None else context, self.now)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        own = copy_context() if context is None else context
        return self.at(when + self._random() * LATE_S, callback, *args, context=own)

    def at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context = WORLD) -> Any:
        """The same, on time, and nobody's: for the world, not for programs."""
        handle = Handle(callback, args, context, when)
        heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        task = Task(coro, loop=self, name=name or "", context=context)
        task.number = next(self._numbers)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """At once, and here."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.faults.append(f"{context.get('message')}: {error!r}")

    def add_signal_handler(self, number: int, callback: Callable[..., Any], *args: Any) -> None:
        process = PROCESS.get()
        assert process is not None
        process.signals[number] = Handle(callback, args, copy_context(), 0.0)

    def remove_signal_handler(self, number: int) -> bool:
        process = PROCESS.get()
        return process is not None and process.signals.pop(number, None) is not None

    def signal(self, process: Process, number: int) -> None:
        """Deliver a signal that the process handles."""
        handle = process.signals.get(number)
        if handle is not None:
            self.call_soon(handle.callback, *handle.args, context=process.context)

    async def shutdown_asyncgens(self) -> None:
        return

    def adopt(self, handles: deque[Handle]) -> None:
        """What came for a process while it was paused."""
        self._ready.extend(handles)

    def run(self, until: float) -> None:
        """Let time pass up to this moment. Raises what the world's own callbacks raise."""
        ready, timers = self._ready, self._timers
        asyncio._set_running_loop(self)
        try:
            while True:
                if ready:
                    handle = ready.popleft()
                elif timers and timers[0][0] <= until:
                    moment, _, handle = heappop(timers)
                    if handle.gone:
                        continue
                    if moment > self.now:
                        self.now = moment
                else:
                    self.now = until
                    return
                if not handle.gone:
                    self._call(handle)
        finally:
            asyncio._set_running_loop(None)

    def _call(self, handle: Handle) -> None:
        context = handle.context
        process = context.get(PROCESS)
        if process is not None:
            if process.dead:
                return
            if process.paused:
                process.backlog.append(handle)
                return
        self.steps += 1
        if self.steps > STEPS_MOST:
            raise RuntimeError(f"{STEPS_MOST} callbacks and no end: something spins at {self.now:.3f}")
        try:
            context.run(handle.callback, *handle.args)
        except Killed:
            return

    def drop(self) -> None:
        """Let go of everything that still waits, without running any of it."""
        asyncio._set_running_loop(self)
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # coroutines nobody waits for any more
                while self._tasks:
                    task = self._tasks.pop()
                    if not task.done():
                        task._log_destroy_pending = False  # type: ignore[attr-defined]
                        _close(task.get_coro())
                for waiting in (self._ready, self._timers):
                    waiting.clear()
        finally:
            sys.unraisablehook = hook
            asyncio._set_running_loop(None)


STEPS_MOST = 2_000_000


def _close(coroutine: Coroutine[Any, Any, Any] | None) -> None:
    """End a coroutine of a world that is over; what it does on its way out no longer counts."""
    try:
        if coroutine is not None:
            coroutine.close()
    except (Exception, Killed, GeneratorExit, asyncio.CancelledError):
        return
