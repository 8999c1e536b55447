"""The watchdog's life: one loop over its agents' requests, its children's ends, and the lease's age.

It ends when no agent is connected and nothing of this node runs; what no agent has taken note of stays in a file.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
from typing import Any

from windlass.watchdog import procfs
from windlass.watchdog.fence import NONE, SOME, Fence, now
from windlass.watchdog.keep import Keeper, Kept, end
from windlass.watchdog.protocol import EXITS, LOCK, SERVES, SINCE, SOCKET, TAKEN, VERSION

TICK_S = 1.0
#: An engine that answers nobody is given up this long after the lease has run out.
ENGINE_S = 60.0
_FIRST_AGENT_S = 5.0


def main(folder: str, node: str, limit_s: float) -> None:
    """Serve, in the background: this process returns once connections are taken, or exits with TAKEN."""
    os.closerange(3, 2**20)  # whatever our starter has left open
    os.chdir(folder)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os._exit(TAKEN)
    door = _door()
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir("/")
    if os.fork():
        os._exit(SERVES)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    Watchdog(door, here, node, limit_s).run()


def _door() -> socket.socket:
    """The socket agents connect to, in the working directory, where nobody else may have one. Raises OSError."""
    door = socket.socket(socket.AF_UNIX)
    if os.path.lexists(SOCKET):
        os.unlink(SOCKET)
    before = os.umask(0o177)
    door.bind(SOCKET)
    os.umask(before)
    door.listen(16)
    return door


class _Agent:
    """A connection."""

    def __init__(self, line: socket.socket) -> None:
        line.setblocking(False)
        self.line, self.read, self.unsent = line, b"", b""

    def send(self, *messages: dict[str, object]) -> None:
        """What does not go at once goes when there is room."""
        self.unsent += b"".join(json.dumps(message).encode() + b"\n" for message in messages)
        self.flush()

    def flush(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.line.send(self.unsent) :]
        except OSError:
            return


class Watchdog:
    """All of it."""

    def __init__(self, door: socket.socket, folder: int, node: str, limit_s: float) -> None:
        self._door, self._folder, self._node = door, folder, node
        self._keeper, self._fence = Keeper(node), Fence(folder, limit_s)
        self._agents: dict[int, _Agent] = {}
        self._docker: tuple[str, list[str]] | None = None
        self._looked: int | None = NONE  # at the containers, since the last agent went: what was found
        self._looker: int | None = None
        self._since = now()
        self._first_until = self._since + _FIRST_AGENT_S
        self._tick_at = 0.0
        self._leave = False
        self._load()
        self._wake = _deaf_but_for_children()
        self._door_seen = os.stat(SOCKET, dir_fd=folder, follow_symlinks=False)
        self._poll = select.poll()
        for fd in (self._wake, door.fileno()):
            self._poll.register(fd, select.POLLIN)

    def run(self) -> None:
        """Until nothing is left to do."""
        while not self._leave:
            for fd, what in self._poll.poll(max(0.0, self._tick_at - now()) * 1000):
                if fd == self._wake:
                    os.read(fd, 4096)
                    self._reap()
                elif fd == self._door.fileno():
                    self._greet()
                elif fd in self._agents:
                    self._serve(fd, what)
            if now() >= self._tick_at:
                self._tick()
        self._end()

    # -- agents

    def _greet(self) -> None:
        line, _ = self._door.accept()
        for fd in list(self._agents):  # what a former agent asked for, and died: it counts before we tell what is kept
            self._serve(fd, select.POLLIN)
        agent = _Agent(line)
        self._agents[line.fileno()] = agent
        self._poll.register(line.fileno(), select.POLLIN)
        self._first_until = 0.0
        agent.send({"v": VERSION, "pid": os.getpid(), "since": self._since, "kept": self._inventory()})

    def _inventory(self) -> list[dict[str, object]]:
        return [
            {"attempt": one.attempt, "fence": one.fence, "pid": one.pid, "exit": one.exit, "ran_s": one.ran_s}
            for one in self._keeper.kept.values()
        ]

    def _keep_door(self) -> None:
        """Should somebody have removed it, or put another one in its place, there is a new one."""
        with contextlib.suppress(OSError):
            os.fchdir(self._folder)
            try:
                ours = os.path.lexists(SOCKET) and os.path.samestat(os.lstat(SOCKET), self._door_seen)
                if not ours and self._read(LOCK).strip() == str(os.getpid()):
                    door = _door()
                    self._poll.unregister(self._door)
                    self._door.close()
                    self._door, self._door_seen = door, os.lstat(SOCKET)
                    self._poll.register(door, select.POLLIN)
            finally:
                os.chdir("/")

    def _serve(self, fd: int, what: int) -> None:
        agent = self._agents[fd]
        if what & select.POLLOUT:
            agent.flush()
        gone = False
        try:
            while not gone:
                piece = agent.line.recv(262144)
                gone = not piece
                agent.read += piece
        except BlockingIOError:
            pass
        except OSError:
            gone = True
        *lines, agent.read = agent.read.split(b"\n")
        try:
            answers = [answer for line in lines if (answer := self._do(json.loads(line))) is not None]
        except (ValueError, KeyError, TypeError):  # whoever that is, it is no agent
            answers, gone = [], True
        if answers:
            agent.send(*answers)
        if gone:
            self._poll.unregister(fd)
            del self._agents[fd]
            agent.line.close()
            self._looked, self._tick_at = None, 0.0
        else:
            self._poll.modify(fd, select.POLLIN | (select.POLLOUT if agent.unsent else 0))

    def _do(self, ask: dict[str, Any]) -> dict[str, object] | None:
        match ask["op"]:
            case "spawn":
                return {"n": ask["n"], **self._spawn(ask)}
            case "inventory":
                return {"n": ask["n"], "kept": self._inventory()}
            case "signal":
                self._keeper.signal(ask["attempt"], ask["number"])
            case "forget":
                self._keeper.forget(ask["attempt"])
            case "guard":
                self._docker = (ask["address"], ask["labels"])
            case "limit":
                self._fence.limit_s = ask["seconds"]
            case _:
                return {"n": ask["n"], "error": "unknown"} if "n" in ask else None
        return None

    def _spawn(self, ask: dict[str, Any]) -> dict[str, object]:
        if self._fence.left_s() < 0:
            return {"error": "fenced"}
        try:
            return {"pid": self._keeper.spawn(ask["attempt"], ask["fence"], **ask["how"])}
        except OSError as error:
            return {"error": "os", "text": error.strerror, "path": error.filename}
        except ValueError as error:
            return {"error": "value", "text": str(error)}

    # -- children

    def _reap(self) -> None:
        ended = self._keeper.reap()
        if ended:
            for agent in self._agents.values():
                agent.send(*map(_end_of, ended))
        if self._looker is not None and (code := self._keeper.helpers[self._looker]) is not None:
            del self._keeper.helpers[self._looker]
            self._looker, self._looked = None, code
            self._leave = self._nothing_left(self._fence.left_s())
        if ended and not self._agents:
            self._tick_at = 0.0

    # -- what time brings

    def _tick(self) -> None:
        self._keep_door()
        left_s = self._fence.left_s()
        self._tick_at = now() + (min(TICK_S, left_s + 0.01) if left_s > 0 else TICK_S)
        if left_s < 0:
            self._end_all()
        if (left_s < 0 or not self._agents) and self._docker is not None and self._looker is None:
            self._looker = self._fence.look(*self._docker, end=left_s < 0)
            self._keeper.helpers[self._looker] = None
        self._leave = self._nothing_left(left_s)

    def _end_all(self) -> None:
        running, strangers = self._keeper.running(), self._keeper.strangers()
        self._fence.note([*(one.attempt for one in running), *strangers.values()])
        self._keeper.kill_all()
        end(strangers)

    def _nothing_left(self, left_s: float) -> bool:
        if self._agents or self._keeper.running() or now() < self._first_until:
            return False
        if self._docker is not None and self._looked != NONE:
            given_up = self._looked not in (None, SOME) and left_s < -ENGINE_S
            if not given_up:
                return False
        return not self._keeper.strangers()

    # -- exits nobody has heard of

    def _load(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            since, boot = self._read(SINCE).split()
            os.unlink(SINCE, dir_fd=self._folder)  # should we be killed, it no longer holds
            if boot == _boot():
                self._since = float(since)
        with contextlib.suppress(OSError):
            for line in self._read(EXITS).splitlines():
                with contextlib.suppress(ValueError, TypeError):  # half a line: the disk was full
                    attempt, fence, code, signalled = json.loads(line)
                    kept = Kept(str(attempt), int(fence), 0)
                    kept.exit = (int(code), bool(signalled))
                    self._keeper.kept[kept.attempt] = kept

    def _end(self) -> None:
        left = [(one.attempt, one.fence, *one.exit) for one in self._keeper.kept.values() if one.exit is not None]
        with contextlib.suppress(OSError):
            self._write(EXITS, "".join(json.dumps(one) + "\n" for one in left))
            self._write(SINCE, f"{self._since} {_boot()}\n")
            os.unlink(SOCKET, dir_fd=self._folder)

    def _read(self, name: str) -> str:
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder), errors="replace") as file:
            return file.read()

    def _write(self, name: str, text: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=self._folder), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _boot() -> str:
    return procfs.read("/proc/sys/kernel/random/boot_id").decode().strip()


def _end_of(kept: Kept) -> dict[str, object]:
    assert kept.exit is not None
    return {"end": kept.attempt, "code": kept.exit[0], "signalled": kept.exit[1], "ran_s": kept.ran_s}


def _deaf_but_for_children() -> int:
    """No polite signal ends us: we end by our own rule. A descriptor that can be read once a child has ended."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    wake, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    return wake


def _nothing(*_: object) -> None:
    """A handler, so that the wake-up descriptor is told at all."""
