"""The mock driver: attempts that run nothing, for tests of everything above a driver.

What an attempt does is read from its spec's env:

    run_for       seconds it runs (default 0)
    exit_code     how it ends (default 0)
    signal        it dies of this signal instead
    fail_times    attempts 1 to this number end with exit_code (1 if that is 0), later ones with 0
    output        what it writes to stdout;  errors: to stderr;  both at the start
    ignore_stop   "1": it takes no notice of the polite signal
    fault         image_pull: `prepare` fails;  start_failed: `start` fails

An attempt is a file under `root` and the clock: its end follows from when it was started and asked to stop, so another
driver on the same root, in this process or a later one, sees the same and can adopt it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from windlass.core.ids import AttemptId
from windlass.core.states import Cause
from windlass.driver.base import Chunk, DriverFault, Facts, Outcome, Survivor, Ticket

_LOOK_S = 0.05
_CHUNK = 64 * 1024


class _Run(msgspec.Struct):
    """One attempt as its file tells it. Times are seconds of the wall clock, which outlives this process."""

    fence: int
    run_for: float
    exit_code: int
    ignore_stop: bool = False
    started: float | None = None
    killed: float | None = None

    def ends_at(self) -> float | None:
        """When it ends or ended, as known now; None for one that was not started."""
        if self.started is None:
            return None
        natural = self.started + self.run_for
        return natural if self.killed is None else min(natural, self.killed)

    def code(self) -> int:
        natural = self.started is not None and self.ends_at() == self.started + self.run_for
        return self.exit_code if natural else 137 if self.ignore_stop else 143


class MockDriver:
    """Plays attempts. Their files live under `root`."""

    name = "mock"
    keeps_outcome = True
    watched = True

    def __init__(self, root: Path) -> None:
        self._root = root

    async def open(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)

    async def close(self) -> None:
        return

    async def facts(self) -> Facts:
        return Facts(available=True, detail="plays attempts; runs nothing")

    def never_started(self, attempt_id: AttemptId, launched_at: float) -> bool:
        """A missing file may have been removed."""
        return False

    async def prepare(self, ticket: Ticket) -> None:
        env = ticket.spec.env
        if env.get("fault") == "image_pull":
            raise DriverFault(Cause.IMAGE_PULL, f"cannot pull image {ticket.spec.image!r}: there is no such image")
        if self._read(ticket.attempt_id) is None:
            run = _Run(
                ticket.fence, float(env.get("run_for", "0")), _planned_code(ticket), env.get("ignore_stop") == "1"
            )
            self._write(ticket.attempt_id, run)

    async def start(self, ticket: Ticket) -> None:
        if ticket.spec.env.get("fault") == "start_failed":
            raise DriverFault(Cause.START_FAILED, f"cannot run {ticket.spec.command!r}: not found")
        run = self._known(ticket.attempt_id)
        if run.started is None:
            run.started = time.time()
            self._write(ticket.attempt_id, run)

    async def wait(self, ticket: Ticket) -> Outcome:
        while True:
            run = self._known(ticket.attempt_id)
            end = run.ends_at()
            if end is None:
                raise DriverFault(Cause.NODE_LOST, f"attempt {ticket.attempt_id} was prepared and never started")
            if end <= time.time():
                return replace(_outcome(run.code()), ran_s=end - (run.started or end))
            await asyncio.sleep(min(_LOOK_S, max(0.0, end - time.time())))

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        run = self._read(ticket.attempt_id)
        end = None if run is None else run.ends_at()
        if run is None or end is None or end <= time.time():
            return
        asked = time.time() + (grace_s if run.ignore_stop else 0)
        run.killed = asked if run.killed is None else min(run.killed, asked)
        self._write(ticket.attempt_id, run)

    async def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        for stream, variable in (("stdout", "output"), ("stderr", "errors")):
            data = ticket.spec.env.get(variable, "").encode()
            for offset in range(after.get(stream, 0), len(data), _CHUNK):
                yield Chunk(stream, offset, data[offset : offset + _CHUNK])
        while (run := self._read(ticket.attempt_id)) is not None:
            end = run.ends_at()
            if end is not None and end <= time.time():
                return
            await asyncio.sleep(_LOOK_S)

    async def remove(self, ticket: Ticket) -> None:
        self._path(ticket.attempt_id).unlink(missing_ok=True)

    async def survivors(self) -> list[Survivor]:
        found: list[Survivor] = []
        for path in sorted(self._root.glob("*.json")):
            attempt_id = AttemptId(path.stem)
            run = self._read(attempt_id)
            if run is not None:
                end = run.ends_at()
                found.append(Survivor(attempt_id, run.fence, running=end is not None and end > time.time()))
        return found

    def _path(self, attempt_id: AttemptId) -> Path:
        return self._root / f"{attempt_id}.json"

    def _read(self, attempt_id: AttemptId) -> _Run | None:
        try:
            return msgspec.json.decode(self._path(attempt_id).read_bytes(), type=_Run)
        except FileNotFoundError:
            return None

    def _known(self, attempt_id: AttemptId) -> _Run:
        run = self._read(attempt_id)
        if run is None:
            raise DriverFault(Cause.NODE_LOST, f"attempt {attempt_id} is gone: removed by someone else")
        return run

    def _write(self, attempt_id: AttemptId, run: _Run) -> None:
        draft = self._path(attempt_id).with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(run))
        draft.replace(self._path(attempt_id))


def _planned_code(ticket: Ticket) -> int:
    env = ticket.spec.env
    code = 128 + int(env["signal"]) if "signal" in env else int(env.get("exit_code", "0"))
    if "fail_times" not in env:
        return code
    return (code or 1) if ticket.number <= int(env["fail_times"]) else 0


def _outcome(code: int) -> Outcome:
    if code == 0:
        return Outcome(0, None)
    if 128 < code <= 128 + 64:
        return Outcome(code, Cause.SIGNAL, f"ended by signal {code - 128}")
    return Outcome(code, Cause.EXIT_CODE, f"exited with code {code}")
