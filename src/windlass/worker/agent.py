"""The agent: what one node does with commands, and what it says of itself.

All commands are idempotent, for any may come twice, late or out of order. Room is taken when an attempt is admitted and
given back before its end is reported, so that what the leader frees is free.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

from windlass import __version__
from windlass.core.ids import AttemptId, NodeId
from windlass.core.placement.filters import misfits
from windlass.core.placement.snapshot import NOTHING, Node, Room, shape_of
from windlass.core.states import Cause, Driver, NodeState
from windlass.driver import base
from windlass.driver.base import Facts
from windlass.stream import wire
from windlass.worker import clock
from windlass.worker.journal import Ended
from windlass.worker.runner import Bench, Run

log = structlog.get_logger("worker")

REFUSALS = 1_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, as it tells the leader."""

    id: NodeId
    name: str
    capacity: Room
    labels: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())


class Agent:
    """One node's attempts. The loops around it are in `serve`."""

    def __init__(self, me: Identity, bench: Bench, drivers: Mapping[Driver, base.Driver]) -> None:
        self.me, self.bench, self.drivers = me, bench, drivers
        self.facts: dict[Driver, Facts] = {}
        #: why the disk has no room for another attempt; empty: it has
        self.full = ""
        self.runs: dict[AttemptId, Run] = {}
        self._used = NOTHING
        self._tasks: set[asyncio.Task[None]] = set()
        #: the last launches that were refused, and why
        self._refused: dict[AttemptId, str] = {}
        #: takes no more, for it is about to end; and whether the leader has said that it knows
        self.leaving = self.released = False
        #: when a leader last said that it hears this node
        self.heard_at = clock.now()
        #: marks the latest hello
        self._mark = ""

    def node(self) -> Node:
        """This node as its own admission sees it."""
        offered = frozenset(name for name, facts in self.facts.items() if facts.available and not self.full)
        return Node(
            self.me.id,
            self.me.name,
            NodeState.READY,
            False,
            offered,
            self.capacity,
            self._used,
            leaving=self.leaving,
        )

    @property
    def capacity(self) -> Room:
        """What this node gives away: what a driver says that knows, else what the settings say."""
        known = [facts.capacity for facts in self.facts.values() if facts.capacity is not None]
        return known[0] if known else self.me.capacity

    def hello(self) -> wire.Hello:
        """Who we are and what we can do, now."""
        me, room = self.me, self.capacity
        offered = tuple(sorted(self.node().drivers))
        told = {n: Facts(False, self.full, f.versions) if self.full else f for n, f in self.facts.items()}
        facts = {n.value: {"available": f.available, "detail": f.detail, **f.versions} for n, f in told.items()}
        self._mark = f"{clock.boot_id()[:8]} {clock.now():.6f}"
        return wire.Hello(
            me.id, me.name, room.millis, room.memory, offered, __version__, me.labels, facts, self.leaving, self._mark
        )

    def beat(self) -> wire.Beat:
        """What this node holds: running, or ended and not yet known to the ledger."""
        entries = self.bench.journal.entries
        ended = tuple(attempt_id for attempt_id, entry in entries.items() if entry.ended is not None)
        return wire.Beat(self.me.id, tuple(entries), ended, clock.boot_id()[:8], clock.now(), self._mark)

    def obey(self, commands: Sequence[wire.Command]) -> None:
        """Take up commands, launches first: a stop in the same batch finds what it stops."""
        launches = [command for command in commands if isinstance(command, wire.Launch)]
        fresh = {launch.attempt_id: launch for launch in launches if not self.bench.journal.knows(launch.attempt_id)}
        for attempt_id in [a for a in fresh if a in self._refused]:
            del fresh[attempt_id]
            self._refuse(attempt_id, self._refused[attempt_id])
        try:
            self.bench.journal.launched(fresh.values())
        except OSError as error:
            for attempt_id in fresh:
                self._refuse(attempt_id, f"the node can't note what it runs: {error.strerror}")
            fresh.clear()
        for launch in fresh.values():
            self._admit(launch)
        for command in commands:
            match command:
                case wire.Stop():
                    self._stop(command)
                case wire.Forget():
                    self._forget(command)
                case wire.Introduce():
                    self.bench.reporter.say(self.hello())
                case wire.Heard():
                    self.heard_at = clock.now()
                    self.released = self.released or command.draining
                case wire.Tell():
                    self._tell(command.attempt_ids)
                case wire.Launch():
                    pass

    def _refuse(self, attempt_id: AttemptId, why: str) -> None:
        """No, and not later either: the same order may come again, once there is room, or because this was lost."""
        self._refused[attempt_id] = why
        while len(self._refused) > REFUSALS:
            del self._refused[next(iter(self._refused))]
        self.bench.reporter.say(wire.Refused(self.me.id, attempt_id, why))

    def _admit(self, launch: wire.Launch) -> None:
        if self.leaving:
            never = Ended(clock.now(), Cause.DRAINED, None, "its worker is about to end; it never started")
            self._over(launch.attempt_id, never)
            return
        shape = shape_of(launch.spec)
        reasons = [self.full] if self.full else list(misfits(self.node(), shape))
        if reasons:
            self._over(launch.attempt_id, Ended(clock.now(), Cause.REJECTED, None, "the node " + "; ".join(reasons)))
            return
        run = Run(self.bench, self.drivers[launch.spec.driver], launch, clock.now())
        self.follow(run, run.fresh())

    def follow(self, run: Run, life: Coroutine[Any, Any, None]) -> None:
        """Let a run live, its room taken until it has ended."""
        self.runs[run.ticket.attempt_id] = run
        self.bench.reporter.live = len(self.runs)
        self._used += shape_of(run.launch.spec).need
        task = asyncio.create_task(self._live(run, life))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, run: Run, life: Coroutine[Any, Any, None]) -> None:
        attempt_id = run.ticket.attempt_id
        bind_contextvars(**_about(run))  # for every line from here on: the task is this attempt's alone
        try:
            await life
        except Exception as error:
            log.exception("run_failed", attempt_id=attempt_id)
            self._over(attempt_id, Ended(clock.now(), Cause.START_FAILED, None, f"the worker failed: {error!r}"))
        finally:
            run.let_go()
            self.runs.pop(attempt_id, None)
            self.bench.reporter.live = len(self.runs)
            self._used -= shape_of(run.launch.spec).need
        await run.clear()

    def _over(self, attempt_id: AttemptId, ended: Ended) -> None:
        self.bench.journal.ended(attempt_id, ended)
        self.bench.reporter.ended(attempt_id, ended)

    def _stop(self, command: wire.Stop) -> None:
        run = self.runs.get(command.attempt_id)
        if run is not None:
            run.stop(command.cause, command.message)
            return
        entry = self.bench.journal.entries.get(command.attempt_id)
        if entry is not None:
            if entry.ended is not None:
                self.bench.reporter.ended(command.attempt_id, entry.ended)
            return
        self.bench.journal.forget([command.attempt_id])
        never = Ended(clock.now(), command.cause, None, f"{command.message}; it never started")
        self.bench.reporter.ended(command.attempt_id, never)

    def _tell(self, attempt_ids: Iterable[AttemptId]) -> None:
        """Say again where these are; of what is not held here the next beat tells."""
        for attempt_id in attempt_ids:
            entry, run = self.bench.journal.entries.get(attempt_id), self.runs.get(attempt_id)
            if entry is not None and entry.ended is not None:
                self.bench.reporter.ended(attempt_id, entry.ended)
            elif run is not None:
                run.tell()

    def _forget(self, command: wire.Forget) -> None:
        """The ledger has no more interest in these. One that still runs was superseded: it is ended first."""
        for attempt_id in command.attempt_ids:
            run = self.runs.get(attempt_id)
            if run is not None:
                run.stop(Cause.CANCELLED, "superseded: the ledger no longer counts on it")
            self.bench.reporter.sent_at.pop(attempt_id, None)
            self._refused.pop(attempt_id, None)
        self.bench.journal.forget(a for a in command.attempt_ids if a not in self.runs)

    def remind(self, older_than_s: float) -> None:
        """Report again the ends the ledger has not confirmed for so long."""
        now, sent = clock.now(), self.bench.reporter.sent_at
        for attempt_id, entry in self.bench.journal.entries.items():
            if entry.ended is not None and now - sent.get(attempt_id, entry.ended.at) > older_than_s:
                self.bench.reporter.ended(attempt_id, entry.ended)

    def fence(self) -> None:
        """End what no watchdog can end, once this node is cut off."""
        lease = self.bench.lease
        if lease is not None and lease.stale:
            for run in list(self.runs.values()):
                run.fence(f"ended by its worker: {lease.silence}")

    def stop_all(self) -> None:
        """Begin to end everything that runs, politely at first."""
        for run in list(self.runs.values()):
            run.stop(Cause.DRAINED, "its worker was stopped")

    def idle(self) -> bool:
        """Whether nothing runs here, and nothing is left of what did."""
        return not self._tasks

    async def leave(self) -> None:
        """Let go of what runs without touching it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _about(run: Run) -> dict[str, str]:
    trace = {} if run.ticket.trace is None else {"trace_id": run.ticket.trace.trace_id}
    return {"attempt_id": run.ticket.attempt_id, "job_id": run.ticket.job_id, **trace}
