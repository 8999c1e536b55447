"""Hosts and processes of the simulated world, each with clocks of its own, and which process is at work now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.loop import Handle

#: Seconds since the epoch at the beginning of every simulated world.
EPOCH = 1_800_000_000.0


class Killed(BaseException):
    """This process has ended in the middle of what it did, as by SIGKILL: nothing of it may have effects any more."""


@dataclass
class Host:
    """A machine: clocks, links, and what its disk keeps. `cut` names what it can't reach: ledger, stream, api."""

    name: str
    boot_offset: float
    wall_offset: float = 0.0
    rate: float = 1.0
    boots: int = 1
    cut: set[str] = field(default_factory=set)

    def since_boot(self, now: float) -> float:
        return self.boot_offset + now * self.rate

    def wall(self, now: float) -> float:
        return EPOCH + now * self.rate + self.wall_offset


@dataclass
class Process:
    """One life of a program: it ends once, and is never started again."""

    name: str
    role: str
    host: Host
    pid: int
    dead: bool = False
    paused: bool = False
    backlog: deque[Handle] = field(default_factory=deque)
    #: what the operating system does when it ends: close connections and files
    at_end: list[Callable[[], None]] = field(default_factory=list)
    #: crash points at which it will be ended, and on which visit
    armed: dict[str, int] = field(default_factory=dict)
    context: Context = field(default_factory=copy_context)
    signals: dict[int, Handle] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.context.run(PROCESS.set, self)

    def end(self) -> None:
        """As by SIGKILL."""
        if not self.dead:
            self.dead = True
            self.backlog.clear()
            for callback in self.at_end:
                callback()
            self.at_end.clear()


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


def alive() -> Process:
    """The process at work; every effect on the world asks. Raises Killed when it has ended."""
    process = PROCESS.get()
    assert process is not None, "a program's effect outside any process"
    if process.dead:
        raise Killed
    return process
