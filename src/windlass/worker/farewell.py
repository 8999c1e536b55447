"""How a worker ends: it drains, it stops what runs at once, or it leaves what runs to the next agent.

Draining: it says that it takes no more, lets what runs end, stops the rest at the deadline, and waits until the ledger
has every outcome. What was stopped goes back into the queue free of charge. SIGHUP turns a drain into leaving.
"""

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

import structlog

from windlass.settings import Worker
from windlass.stream import wire
from windlass.worker import clock
from windlass.worker.agent import Agent

log = structlog.get_logger("worker")

#: Seconds the leader gets to answer that it places nothing more here. One of version 0.1 never does.
RELEASED_S = 2.0
#: Seconds the ledger gets to confirm the last outcomes; they are in the journal in any case.
CONFIRMED_S = 5.0
#: Seconds a killed job gets to be gone, beyond its own stop_grace.
GONE_S = 5.0
_LOOK_S = 0.02


@contextmanager
def hangup(stop: asyncio.Event) -> Generator[asyncio.Event]:
    """An event that SIGHUP sets, and `stop` with it: leave, whatever on_exit says. Under nohup it stays ignored."""
    leave = asyncio.Event()

    def on_signal() -> None:
        leave.set()
        stop.set()

    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield leave
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, on_signal)
    try:
        yield leave
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def farewell(agent: Agent, mine: Worker, leave: asyncio.Event) -> None:
    """End as worker.on_exit says; with `leave` set, or set meanwhile, let go of what runs without touching it."""
    match mine.on_exit:
        case "leave":
            pass
        case "stop":
            await _drain(agent, 0.0, mine.stop_within_s, leave)
        case "drain":
            await _drain(agent, mine.drain_deadline_s, None, leave)


async def _drain(agent: Agent, deadline_s: float, within_s: float | None, leave: asyncio.Event) -> None:
    """Let what runs end; stop the rest after deadline_s. All of that within within_s more seconds, where given."""
    if leave.is_set():
        return
    log.info("draining", running=len(agent.runs), deadline_s=deadline_s)
    agent.leaving = True
    agent.bench.reporter.say(agent.hello())
    began = clock.now()
    if deadline_s:
        await _until(lambda: agent.released, RELEASED_S, leave)
        await _until(agent.idle, deadline_s - (clock.now() - began), leave)
    if leave.is_set():
        return
    if not agent.idle():
        log.info("drain_deadline", running=len(agent.runs))
        agent.stop_all()
    grace = max((run.launch.spec.stop_grace for run in agent.runs.values()), default=0.0)
    until = clock.now() + (grace + GONE_S if within_s is None else within_s)
    await _until(agent.idle, until - clock.now(), leave)
    held = agent.bench.journal.entries
    await _until(lambda: not held, CONFIRMED_S if within_s is None else until - clock.now(), leave)
    if agent.idle() and not held:
        agent.bench.reporter.say(wire.Bye(agent.me.id))


async def _until(done: Callable[[], bool], within_s: float, leave: asyncio.Event) -> None:
    """Wait for it, at most so long, and no longer once the worker is to leave."""
    end = clock.now() + within_s
    while not done() and not leave.is_set() and clock.now() < end:  # noqa: ASYNC110 - no event tells of all three
        await asyncio.sleep(_LOOK_S)
