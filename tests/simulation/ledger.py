"""The simulated ledger: the tables as rows in memory, one statement at a time, each of them atomic.

What a statement does is told in `twins.py`; what can go wrong on the way to it in `database.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.simulation.process import EPOCH, Process

Row = dict[str, Any]
LIVE = frozenset({"placed", "preparing", "running", "stopping"})
OVER = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(eq=False)
class Session:
    """One connection as the server sees it: what it holds is let go when it ends."""

    role: str
    process: Process | None
    open: bool = True


@dataclass
class Ledger:
    """All tables. `clock` tells the world's seconds."""

    clock: Callable[[], float]
    jobs: dict[str, Row] = field(default_factory=dict)
    tasks: dict[str, Row] = field(default_factory=dict)
    attempts: dict[str, Row] = field(default_factory=dict)
    nodes: dict[str, Row] = field(default_factory=dict)
    schedulers: dict[str, Row] = field(default_factory=dict)
    shapes: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    outbox: dict[int, Row] = field(default_factory=dict)
    inbox: dict[int, Row] = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    chunks: dict[tuple[str, str, int], Row] = field(default_factory=dict)
    lease: Row | None = None
    #: advisory locks: who holds them, how many times over
    locks: dict[int, tuple[Session, int]] = field(default_factory=dict)
    #: writes of a leader whose term was not the lease's
    trespasses: list[str] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: count(1))
    #: called after each write of the one door: session, term, rows before and after by task id
    watchers: list[Callable[..., None]] = field(default_factory=list)

    def now(self) -> float:
        """Seconds since the epoch by the server's clock."""
        return EPOCH + self.clock()

    def term(self) -> int | None:
        return None if self.lease is None else self.lease["term"]

    def holds_term(self, term: int | None) -> bool:
        """The fence: whether this is the term of the lease, lapsed or not."""
        return self.lease is not None and self.lease["term"] == term

    def wrote(self, session: Session, term: int | None) -> None:
        """A write took place: the oracle's own look at the fence."""
        if session.role == "leader" and term != self.term():
            self.trespasses.append(
                f"{session.process and session.process.name} wrote under term {term} in {self.term()}"
            )

    def end(self, session: Session) -> None:
        """The server has noticed that this connection is gone."""
        session.open = False
        for key in [key for key, (holder, _) in self.locks.items() if holder is session]:
            del self.locks[key]

    def try_lock(self, key: int, session: Session) -> bool:
        """A session-level advisory lock; the same session may take it again."""
        holder, times = self.locks.get(key, (session, 0))
        if holder is not session:
            return False
        self.locks[key] = (session, times + 1)
        return True

    def unlock(self, key: int, session: Session) -> bool:
        holder, times = self.locks.get(key, (None, 0))
        if holder is not session:
            return False
        if times > 1:
            self.locks[key] = (session, times - 1)
        else:
            del self.locks[key]
        return True

    def tell(self, job_id: str, kind: str, data: Any = None) -> None:
        """An event row."""
        number = next(self.numbers)
        row = {"txid": number, "id": number, "at": self.now(), "job_id": job_id, "type": kind, "data": data}
        self.events.append(row)

    def latest(self, task: Row) -> Row | None:
        """The task's attempt of the highest number."""
        return next(
            (a for a in self.attempts.values() if a["task_id"] == task["id"] and a["number"] == task["attempts"]), None
        )

    def live(self) -> list[Row]:
        return [a for a in self.attempts.values() if a["state"] in LIVE]
