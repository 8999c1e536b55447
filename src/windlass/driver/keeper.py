"""The agent's side of the watchdog: find the one of this folder or start it, ask it for processes, hear of their ends.

Should the watchdog die, its processes live on as nobody's children: they are watched from here until they end, with an
exit code that nobody can tell, and another watchdog is started.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

import windlass.watchdog
from windlass.core.ids import AttemptId
from windlass.driver.base import AnswerLost, EngineUnavailable
from windlass.driver.keeper_line import Line
from windlass.watchdog.protocol import LOG, SERVES, SOCKET, TAKEN

log = structlog.get_logger("worker")

_START_S = 10.0
_RETRY_S = 0.5
_INVENTORY_VERSION = 3


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its code, or the signal it died of; and how long it ran, in seconds, where that is known."""

    code: int
    signalled: bool
    ran_s: float | None = field(default=None, compare=False)


def exit_of(kept: dict[str, Any]) -> Exit:
    """How a process ended, from the watchdog's list of what it keeps."""
    code, signalled = kept["exit"]
    return Exit(code, signalled, kept.get("ran_s"))


@dataclass(slots=True)
class Process:
    """One that is kept. `done` is None at the end when nobody knows how it ended."""

    pid: int
    fence: int
    done: "asyncio.Future[Exit | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    orphan: bool = False

    def end(self, how: Exit | None) -> None:
        if not self.done.done():
            self.done.set_result(how)


class SpawnFault(Exception):
    """The process could not be started; the message says why, `path` what was not found or not allowed."""

    def __init__(self, text: str, path: str | None) -> None:
        super().__init__(text)
        self.text, self.path = text, path


class Keeper:
    """A connection to the watchdog of one data folder, made again when it is lost; `limit_s` is worker.self_fence_s."""

    def __init__(self, folder: Path, node_id: str, limit_s: float, first: Callable[[], None] = lambda: None) -> None:
        """`first` is called when none is found that a former agent has left, before one is started."""
        self._folder, self._node, self._limit_s, self._first = folder, node_id, limit_s, first
        self.processes: dict[AttemptId, Process] = {}
        #: when the watchdog began, in seconds since boot
        self.since: float | None = None
        self._line: Line | None = None
        self._owed: set[AttemptId] = set()  # forgotten while it was away
        self._met, self._version = False, 1
        self._guarded: dict[str, Any] | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._reviving: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._line is not None and not self._line.lost

    @property
    def node(self) -> str:
        return self._node

    @property
    def guarded(self) -> tuple[str, list[str]] | None:
        """The engine's address and the labels of the containers to end with the rest; None where there is no engine."""
        return (self._guarded["address"], self._guarded["labels"]) if self._guarded is not None else None

    async def open(self) -> None:
        """Connect; start it where there is none. Raises EngineUnavailable."""
        async with self._opening:
            if self.connected:
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                async with asyncio.timeout(_START_S):
                    line = await self._reach()
            except (TimeoutError, OSError) as error:
                raise EngineUnavailable(f"the watchdog does not answer: {error or 'no word from it'}") from error
            if self._closed:  # meanwhile: nobody would ever let go of it
                line.close()
                await line.closed.wait()
                raise EngineUnavailable("the agent has let go of the watchdog")

    def _greeted(self, line: Line, hello: dict[str, Any]) -> None:
        """Take in what the watchdog keeps. Called as its greeting is read, before any end that follows it."""
        if self._closed:
            return
        self._line = line
        self._met, self.since, self._version = True, hello["since"], hello.get("v", 1)
        owed, self._owed = self._owed, set[AttemptId]()
        for attempt_id in owed:
            self._send({"op": "forget", "attempt": attempt_id})
        for one in hello["kept"]:
            if one["attempt"] in owed:
                continue
            process = self.processes.setdefault(AttemptId(one["attempt"]), Process(one["pid"], one["fence"]))
            process.orphan = False
            if one["exit"] is not None:
                process.end(exit_of(one))
        self._send({"op": "limit", "seconds": self._limit_s})
        if self._guarded is not None:
            self._send(self._guarded)

    async def _reach(self) -> Line:
        while True:
            with contextlib.suppress(OSError):
                return await self._connect()
            if not self._met:
                self._first()
            if await self._start() not in (SERVES, TAKEN):
                raise OSError(f"it can't be started: {self._last_words()}")
            await asyncio.sleep(0.01)

    async def _connect(self) -> Line:
        """Raises OSError when none is there, or the one there is about to end."""
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        door = socket.socket(socket.AF_UNIX)
        try:
            door.connect(f"/proc/self/fd/{folder}/{SOCKET}")  # a path of any length
        except OSError:
            door.close()
            raise
        finally:
            os.close(folder)
        loop = asyncio.get_running_loop()
        _, line = await loop.create_unix_connection(lambda: Line(self._greeted, self._ended, self._lost), sock=door)
        try:
            await line.greeted
        except BaseException:
            line.close()
            raise
        return line

    async def _start(self) -> int:
        root = Path(windlass.watchdog.__file__).parent
        arguments = ["-I", "-S", str(root), str(self._folder), self._node, str(self._limit_s)]
        with (self._folder / LOG).open("wb") as words:
            started = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
                env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
            )
        return await started.wait()

    def _last_words(self) -> str:
        words = (self._folder / LOG).read_text(errors="replace").strip().splitlines()
        return words[-1] if words else "it said nothing"

    async def close(self) -> None:
        """Let go of the connection for good; what runs goes on running, and the watchdog with it."""
        self._closed = True
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.wait([self._reviving])
        line, self._line = self._line, None
        if line is not None:
            line.close()
            await line.closed.wait()

    def _send(self, message: dict[str, Any]) -> None:
        if self._line is not None:
            self._line.send(message)

    async def spawn(self, attempt_id: AttemptId, fence: int, how: dict[str, Any]) -> None:
        """Start it. Raises SpawnFault, EngineUnavailable when it was not started, AnswerLost: `recall` must tell."""
        await self.open()
        assert self._line is not None
        line, process = self._line, Process(0, fence)
        self.processes[attempt_id] = process
        try:
            answer = await line.ask({"op": "spawn", "attempt": attempt_id, "fence": fence, "how": how})
        except (TimeoutError, EngineUnavailable) as error:
            self.processes.pop(attempt_id, None)  # it is met again if it runs
            line.drop()
            raise AnswerLost("the watchdog did not answer") from error
        except BaseException:
            self.forget(attempt_id)  # should it start after all, it is ended
            raise
        if (error := answer.get("error")) is None:
            process.pid = answer["pid"]
            return
        self.forget(attempt_id)
        if error == "fenced":
            raise EngineUnavailable("this node is cut off: no word from Redis or the API")
        raise SpawnFault(str(answer.get("text")), answer.get("path"))

    async def recall(self, attempt_id: AttemptId) -> bool | None:
        """Whether one was started whose answer was lost. Waits until the watchdog answers again, for it reads what it
        was asked before it greets. None: it has died, and the one in its place can't know."""
        asked = self.since
        while True:
            with contextlib.suppress(EngineUnavailable):
                await self.open()
                break
            await asyncio.sleep(_RETRY_S)
        if attempt_id in self.processes:
            return True
        return False if self.since == asked else None

    def signal(self, attempt_id: AttemptId, number: signal.Signals) -> None:
        """To its process group, if it runs."""
        process = self.processes.get(attempt_id)
        if process is None or process.done.done():
            return
        if process.orphan:
            _signal_group(process.pid, number)
        else:
            self._send({"op": "signal", "attempt": attempt_id, "number": int(number)})

    def forget(self, attempt_id: AttemptId) -> None:
        """Its exit is no longer needed; should it run, it is ended, now or as soon as the watchdog is met again."""
        self.processes.pop(attempt_id, None)
        if self.connected:
            self._send({"op": "forget", "attempt": attempt_id})
        else:
            self._owed.add(attempt_id)

    async def inventory(self) -> dict[str, dict[str, Any]] | None:
        """What the watchdog keeps, by attempt id. None: it is away, does not answer, or is too old to be asked."""
        if self._line is None or self._line.lost or self._version < _INVENTORY_VERSION:
            return None
        try:
            answer = await self._line.ask({"op": "inventory"})
        except (TimeoutError, EngineUnavailable):
            return None
        return {one["attempt"]: one for one in answer["kept"]}

    def guard(self, address: str, labels: Sequence[str]) -> None:
        """The containers with these labels, at the engine of this address, are to be ended with the rest."""
        self._guarded = {"op": "guard", "address": address, "labels": list(labels)}
        self._send(self._guarded)

    def watch(self, attempt_id: AttemptId, pid: int, fence: int) -> None:
        """A process without a watchdog: only that it ends can be seen."""
        process = self.processes.setdefault(attempt_id, Process(pid, fence))
        process.orphan = True
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            process.end(None)
            return
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            if process.orphan:  # else it was found again where it was kept
                _signal_group(pid, signal.SIGKILL)
                process.end(None)

        loop.add_reader(pidfd, gone)

    def _ended(self, end: dict[str, Any]) -> None:
        attempt_id = AttemptId(end["end"])
        if attempt_id in self.processes:
            self.processes[attempt_id].end(Exit(end["code"], end["signalled"], end.get("ran_s")))

    def _lost(self, line: Line) -> None:
        if line is not self._line:
            return
        log.warning("watchdog_lost")
        for attempt_id, process in self.processes.items():
            if not process.done.done() and process.pid:
                self.watch(attempt_id, process.pid, process.fence)
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._revive())

    async def hold(self) -> None:
        """Connect now, or else as soon as it can be."""
        try:
            await self.open()
        except EngineUnavailable as error:
            log.warning("watchdog_missing", error=str(error))
            self._reviving = asyncio.create_task(self._revive())

    async def _revive(self) -> None:
        while not self.connected:
            try:
                await self.open()
            except EngineUnavailable as error:
                log.warning("watchdog_missing", error=str(error))
                await asyncio.sleep(_RETRY_S)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
