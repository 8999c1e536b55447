"""Jobs as plain processes of the node: posix_spawn, pidfd, own session and process group, output straight to files.

For trusted work on the operator's own machine: a process sees what the worker's user sees. Nothing is kept in memory
that a restarted agent needs: a survivor is found by the attempt id in its environment. Its exit code is not ours to
read then, for the kernel tells it to the parent alone; its end is reported as lost to infrastructure.
"""

import asyncio
import contextlib
import functools
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from windlass.core.ids import AttemptId
from windlass.core.states import Cause
from windlass.driver.base import Chunk, DriverFault, Facts, Outcome, Survivor, Ticket
from windlass.driver.process_output import chunks
from windlass.driver.slots import STREAMS, Slot, Slots, erase

KEEP_BYTES = 24 * 2**20
POLL_S = 0.2
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL", "SSL_CERT_FILE")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
#: A job starts with every signal as the system has it, whatever the worker or its parent (nohup) ignores.
_RESET = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    done: "asyncio.Future[Outcome]"
    ours: bool


class ProcessDriver:
    """The driver `process`."""

    name = "process"
    keeps_outcome = False

    def __init__(self, root: Path, node_id: str, keep_bytes: int = KEEP_BYTES) -> None:
        """`keep_bytes` of output stay on the disk behind the reader, for a restarted agent to read again."""
        self._slots, self._node, self._keep = Slots(root), node_id, keep_bytes
        self._used: dict[AttemptId, Slot] = {}
        self._prepared: set[AttemptId] = set()  # by this process, and never started
        self._left: dict[AttemptId, int] = {}  # by a former one, with their fences
        self._children: dict[AttemptId, _Child] = {}
        self._base = {name: os.environ[name] for name in _INHERITED if name in os.environ}

    async def open(self) -> None:
        """Take over the slots that are in use."""
        for owner, slot in self._slots.found().items():
            attempt_id, _, fence = owner.partition(" ")
            self._used.setdefault(AttemptId(attempt_id), slot)
            self._left[AttemptId(attempt_id)] = _number(fence)

    async def close(self) -> None:
        """Let go of the pidfds; what runs goes on running."""
        loop = asyncio.get_running_loop()
        for child in self._children.values():
            loop.remove_reader(child.pidfd)
            if not child.done.done():
                os.close(child.pidfd)
        self._children.clear()
        self._slots.close()

    async def facts(self) -> Facts:
        """Always there."""
        return Facts(True, "processes of this machine", {"kernel": os.uname().release})

    async def prepare(self, ticket: Ticket) -> None:
        """Take a slot to run in."""
        if ticket.attempt_id in self._used:
            return
        try:
            self._used[ticket.attempt_id] = self._slots.take(f"{ticket.attempt_id} {ticket.fence}")
        except OSError as error:
            raise DriverFault(Cause.START_FAILED, f"cannot make its folder: {error.strerror}") from error
        self._prepared.add(ticket.attempt_id)

    async def start(self, ticket: Ticket) -> None:
        """Spawn, once in its life: one that a former agent prepared may have run already, and is never run again."""
        if ticket.attempt_id in self._prepared:
            self._prepared.discard(ticket.attempt_id)
            self._watch(ticket.attempt_id, self._spawn(ticket), ours=True)

    def _spawn(self, ticket: Ticket) -> int:
        spec = ticket.spec
        argv = [*(spec.command or ()), *(spec.args or ())]
        slot = self._used[ticket.attempt_id]
        env = self._base | spec.env | _identity(ticket, self._node)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, slot.path("stdout"), _APPEND, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, slot.path("stderr"), _APPEND, 0o600),
        ]
        try:
            # posix_spawn has no working directory: ours is lent for the call, which nothing else can interleave.
            os.chdir(spec.workdir or slot.path("work"))
            program = argv[0] if "/" in argv[0] else _which(argv[0], env.get("PATH", os.defpath))
            pid = os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=_RESET)
        except OSError as error:
            _which.cache_clear()
            what = str(error.strerror) if argv[0] in str(error.strerror) else f"{argv[0]}: {error.strerror}"
            raise DriverFault(Cause.START_FAILED, what) from error
        except ValueError as error:
            raise DriverFault(Cause.START_FAILED, f"cannot start {argv[0]}: {error}") from error
        finally:
            os.chdir("/")
        _limit(pid, ticket)
        return pid

    def _watch(self, attempt_id: AttemptId, pid: int, *, ours: bool) -> None:
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(pid)
        child = _Child(pid, pidfd, loop.create_future(), ours)
        self._children[attempt_id] = child
        loop.add_reader(pidfd, self._ended, child)

    @staticmethod
    def _ended(child: _Child) -> None:
        asyncio.get_running_loop().remove_reader(child.pidfd)
        # The rest of the group goes too, before the leader is reaped: until then its number can't be another's.
        _signal_group(child.pid, signal.SIGKILL)
        outcome = _reap(child.pidfd) if child.ours else None
        os.close(child.pidfd)
        if not child.done.done():
            child.done.set_result(outcome or _unknown())

    async def wait(self, ticket: Ticket) -> Outcome:
        """How it ended; one that outlived a former agent and is gone now has an unknown end."""
        child = self._child(ticket.attempt_id)
        return _unknown() if child is None else await asyncio.shield(child.done)

    def _child(self, attempt_id: AttemptId) -> _Child | None:
        """Its process; one that a former agent started is looked for."""
        if attempt_id not in self._children and (pid := _find(attempt_id, self._node)) is not None:
            with contextlib.suppress(ProcessLookupError):
                self._watch(attempt_id, pid, ours=False)
        return self._children.get(attempt_id)

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        """SIGTERM to the group, SIGKILL after the grace."""
        child = self._child(ticket.attempt_id)
        if child is None or child.done.done():
            return
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.shield(child.done)
        if not child.done.done():
            _signal_group(child.pid, signal.SIGKILL)

    async def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """The files' content past the offsets, as it grows. What has been read is freed on disk when there is much.
        Of a job that prints faster than is read, what is neither its first nor its latest `keep_bytes` is passed over.
        """
        offsets = {stream: after.get(stream, 0) for stream in STREAMS}
        while True:
            child = self._child(ticket.attempt_id)
            over = child is None or child.done.done()
            slot = self._used.get(ticket.attempt_id)
            if slot is None:
                return
            for stream in STREAMS:
                for chunk in chunks(slot, stream, offsets[stream], self._keep):
                    offsets[stream] = chunk.offset + len(chunk.data)
                    yield chunk
                    await asyncio.sleep(0)  # the reader may never wait for anything, and others are to have a turn
            if over:
                return
            assert child is not None
            await asyncio.wait([child.done], timeout=POLL_S)

    async def remove(self, ticket: Ticket) -> None:
        """Give its slot back, emptied."""
        self._prepared.discard(ticket.attempt_id)
        self._left.pop(ticket.attempt_id, None)
        self._children.pop(ticket.attempt_id, None)
        slot = self._used.pop(ticket.attempt_id, None)
        if slot is not None and not self._slots.give_back(slot):
            await asyncio.to_thread(erase, slot.folder)

    async def survivors(self) -> list[Survivor]:
        """Processes that carry an attempt id and this node's, and slots whose process has ended."""
        running = {attempt_id: Survivor(attempt_id, fence, True) for attempt_id, fence, _ in _scan(self._node)}
        ended = [Survivor(a, fence, False) for a, fence in self._left.items() if a in self._used and a not in running]
        return [*running.values(), *ended]


@functools.lru_cache(maxsize=256)
def _which(name: str, path: str) -> str:
    """Where a command is. Raises FileNotFoundError, which is not remembered."""
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(2, f"command not found: {name}")
    return found


def _identity(ticket: Ticket, node_id: str) -> dict[str, str]:
    return {
        "WINDLASS_JOB_ID": ticket.job_id,
        "WINDLASS_ATTEMPT_ID": ticket.attempt_id,
        "WINDLASS_ATTEMPT": str(ticket.number),
        "WINDLASS_FENCE": str(ticket.fence),
        "WINDLASS_NODE_ID": node_id,
    }


def _limit(pid: int, ticket: Ticket) -> None:
    """Resource limits of the process. Address space only where the spec names a hard limit: runtimes that reserve
    much and use little would not start under the plain reservation."""
    needs = ticket.spec.resources
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        if needs.memory_max is not None:
            resource.prlimit(pid, resource.RLIMIT_AS, (needs.memory_max, needs.memory_max))


def _reap(pidfd: int) -> Outcome | None:
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return None
    if info is None:
        return None
    if info.si_code == os.CLD_EXITED:
        return Outcome(info.si_status, Cause.EXIT_CODE if info.si_status else None)
    name = signal.Signals(info.si_status).name if info.si_status in set(signal.Signals) else str(info.si_status)
    return Outcome(128 + info.si_status, Cause.SIGNAL, f"killed by {name}")


def _unknown() -> Outcome:
    return Outcome(None, Cause.NODE_LOST, "its exit code is unknown: the worker that started it was gone")


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _scan(node_id: str) -> list[tuple[AttemptId, int, int]]:
    """(attempt, fence, pid) of every process that leads its group and carries this node's marks."""
    found: list[tuple[AttemptId, int, int]] = []
    mark = b"WINDLASS_NODE_ID=" + node_id.encode() + b"\0"
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            raw = Path(f"/proc/{entry}/environ").read_bytes()
            if mark not in raw or b"WINDLASS_ATTEMPT_ID=" not in raw or os.getpgid(int(entry)) != int(entry):
                continue
        except OSError:
            continue
        env = dict(pair.split(b"=", 1) for pair in raw.split(b"\0") if b"=" in pair)
        fence = env.get(b"WINDLASS_FENCE", b"0")
        attempt_id = AttemptId(env[b"WINDLASS_ATTEMPT_ID"].decode(errors="replace"))
        found.append((attempt_id, _number(fence.decode(errors="replace")), int(entry)))
    return found


def _number(text: str) -> int:
    """A fence, or 0: jobs can write to where we read it from."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _find(attempt_id: AttemptId, node_id: str) -> int | None:
    return next((pid for found, _, pid in _scan(node_id) if found == attempt_id), None)
