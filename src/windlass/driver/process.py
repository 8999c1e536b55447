"""Jobs as plain processes of the node: own session and process group, output straight to files.

For trusted work on the operator's own machine: a process sees what the worker's user sees. The watchdog is their parent
(`windlass.watchdog.keep`), so a restarted agent finds them and their exits there. Only when the watchdog itself has
died is a survivor found by the attempt id in its environment: its exit code nobody can tell then, and its end is
reported as lost to infrastructure.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from windlass.core.ids import AttemptId
from windlass.core.states import Cause
from windlass.driver.base import (
    AnswerLost,
    Chunk,
    DriverFault,
    EngineUnavailable,
    Facts,
    Outcome,
    Survivor,
    Ticket,
    environment,
)
from windlass.driver.keeper import Exit, Keeper, Process, SpawnFault
from windlass.driver.process_output import chunks
from windlass.driver.slots import STREAMS, Slot, Slots, erase
from windlass.driver.taken_down import unseen

KEEP_BYTES = 24 * 2**20
POLL_S = 0.2
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL", "SSL_CERT_FILE")


class ProcessDriver:
    """The driver `process`."""

    name = "process"
    keeps_outcome = False
    watched = True

    def __init__(self, root: Path, node_id: str, keeper: Keeper, keep_bytes: int = KEEP_BYTES) -> None:
        """`keep_bytes` of output stay on the disk behind the reader, for a restarted agent to read again."""
        self._slots, self._node, self._keep = Slots(root), node_id, keep_bytes
        self._keeper = keeper
        self._used: dict[AttemptId, Slot] = {}
        self._prepared: set[AttemptId] = set()  # by this process, and never started
        self._left: dict[AttemptId, int] = {}  # by a former one, with their fences
        self._base = {name: os.environ[name] for name in _INHERITED if name in os.environ}

    async def open(self) -> None:
        """Reach the watchdog; take over the slots that are in use. Raises EngineUnavailable."""
        await self._keeper.open()
        for owner, slot in self._slots.found().items():
            attempt_id, _, fence = owner.partition(" ")
            self._used.setdefault(AttemptId(attempt_id), slot)
            self._left[AttemptId(attempt_id)] = _number(fence)

    async def close(self) -> None:
        """Let go; what runs goes on running."""
        self._slots.close()

    async def facts(self) -> Facts:
        """There as long as the watchdog is."""
        if not self._keeper.connected:
            return Facts(False, "its watchdog is away")
        return Facts(True, "processes of this machine", {"kernel": os.uname().release})

    def never_started(self, attempt_id: AttemptId, launched_at: float) -> bool:
        """Certain of all that came after the watchdog began: it keeps each until it is told to forget it."""
        since = self._keeper.since
        return since is not None and since < launched_at and attempt_id not in self._keeper.processes

    async def prepare(self, ticket: Ticket) -> None:
        """Take a slot to run in. That there is none is the node's fault, not the job's. Raises EngineUnavailable."""
        if ticket.attempt_id in self._used:
            return
        try:
            self._used[ticket.attempt_id] = self._slots.take(f"{ticket.attempt_id} {ticket.fence}")
        except OSError as error:
            raise EngineUnavailable(f"the node can't make its folder: {error.strerror}") from error
        self._prepared.add(ticket.attempt_id)

    async def start(self, ticket: Ticket) -> None:
        """Spawn, once in its life: one that a former agent prepared may have run already, and is never run again."""
        if ticket.attempt_id not in self._prepared:
            return
        self._prepared.discard(ticket.attempt_id)
        try:
            await self._keeper.spawn(ticket.attempt_id, ticket.fence, self._how(ticket))
        except AnswerLost:
            await self._learn(ticket.attempt_id)
        except SpawnFault as fault:
            _which.cache_clear()
            raise _refusal(ticket, fault) from fault

    async def _learn(self, attempt_id: AttemptId) -> None:
        """What became of a start whose answer was lost. Raises EngineUnavailable when it never was, DriverFault when
        nobody can tell."""
        try:
            started = await self._keeper.recall(attempt_id)
        except asyncio.CancelledError:
            self._keeper.forget(attempt_id)
            raise
        if started is False:
            raise EngineUnavailable("the watchdog was away before it could start this")
        if started is None:
            found = _find(attempt_id, self._node)
            if found is None:
                raise DriverFault(Cause.NODE_LOST, "the watchdog died while it was to start this")
            self._keeper.watch(attempt_id, found.pid, found.fence)

    def _how(self, ticket: Ticket) -> dict[str, Any]:
        """What the watchdog is to start. Raises DriverFault."""
        spec = ticket.spec
        argv = [*(spec.command or ()), *(spec.args or ())]
        slot = self._used[ticket.attempt_id]
        env = self._base | environment(ticket) | {"WINDLASS_NODE_ID": self._node}
        try:
            program = argv[0] if "/" in argv[0] else _which(argv[0], env.get("PATH", os.defpath))
        except FileNotFoundError as error:
            raise DriverFault(Cause.START_FAILED, str(error.strerror)) from error
        return {
            "program": program,
            "argv": argv,
            "env": env,
            "cwd": spec.workdir or slot.path("work"),
            "out": slot.path("stdout"),
            "err": slot.path("stderr"),
            # Only a hard limit: runtimes that reserve much and use little would not start under the reservation.
            "address_space": spec.resources.memory_max,
        }

    async def wait(self, ticket: Ticket) -> Outcome:
        """How it ended; one that outlived its watchdog, or was never started, has an unknown end."""
        process = self._process(ticket.attempt_id)
        if process is None:
            return _unknown()
        seen, outcome = not process.done.done(), _outcome(await asyncio.shield(process.done))
        return outcome if seen else unseen(outcome, rebooted=ticket.rebooted, same_engine=True)

    def _process(self, attempt_id: AttemptId) -> Process | None:
        """Its process; one that a dead watchdog had kept is looked for."""
        kept = self._keeper.processes
        if attempt_id not in kept and attempt_id in self._left and (found := _find(attempt_id, self._node)):
            self._keeper.watch(attempt_id, found.pid, found.fence)
        return kept.get(attempt_id)

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        """SIGTERM to the group, SIGKILL after the grace."""
        process = self._process(ticket.attempt_id)
        if process is None or process.done.done():
            return
        self._keeper.signal(ticket.attempt_id, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.shield(process.done)
        self._keeper.signal(ticket.attempt_id, signal.SIGKILL)

    async def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """The files' content past the offsets, as it grows. What has been read is freed on disk when there is much.
        Of a job that prints faster than is read, what is neither its first nor its latest `keep_bytes` is passed over.
        """
        offsets = {stream: after.get(stream, 0) for stream in STREAMS}
        while True:
            process = self._process(ticket.attempt_id)
            over = process is None or process.done.done()
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
            assert process is not None
            await asyncio.wait([process.done], timeout=POLL_S)

    async def remove(self, ticket: Ticket) -> None:
        """Give its slot back, emptied."""
        self._prepared.discard(ticket.attempt_id)
        self._left.pop(ticket.attempt_id, None)
        self._keeper.forget(ticket.attempt_id)
        slot = self._used.pop(ticket.attempt_id, None)
        if slot is not None and not self._slots.give_back(slot):
            await asyncio.to_thread(erase, slot.folder)

    async def survivors(self) -> list[Survivor]:
        """What the watchdog keeps, running or ended; processes that carry this node's marks without it; and slots whose
        process is gone."""
        found = {one.attempt_id: Survivor(one.attempt_id, one.fence, True) for one in _scan(self._node)}
        found |= {a: Survivor(a, p.fence, not p.done.done()) for a, p in self._keeper.processes.items()}
        left = {a: Survivor(a, fence, False) for a, fence in self._left.items() if a in self._used}
        return [*(left | found).values()]


@functools.lru_cache(maxsize=256)
def _which(name: str, path: str) -> str:
    """Where a command is. Raises FileNotFoundError, which is not remembered."""
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(2, f"command not found: {name}")
    return found


def _refusal(ticket: Ticket, fault: SpawnFault) -> DriverFault:
    command = (ticket.spec.command or ticket.spec.args or ("",))[0]
    what = f"{fault.path or command}: {fault.text}"
    return DriverFault(Cause.START_FAILED, what)


def _outcome(how: Exit | None) -> Outcome:
    if how is None:
        return _unknown()
    if not how.signalled:
        return Outcome(how.code, Cause.EXIT_CODE if how.code else None, ran_s=how.ran_s)
    name = signal.Signals(how.code).name if how.code in set(signal.Signals) else str(how.code)
    return Outcome(128 + how.code, Cause.SIGNAL, f"killed by {name}", how.ran_s)


def _unknown() -> Outcome:
    return Outcome(None, Cause.NODE_LOST, "its exit code is unknown: the watchdog that kept it was gone")


class _Marked(NamedTuple):
    attempt_id: AttemptId
    fence: int
    pid: int


def _scan(node_id: str) -> list[_Marked]:
    """Every process that leads its group and carries this node's marks."""
    found: list[_Marked] = []
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
        found.append(_Marked(attempt_id, _number(fence.decode(errors="replace")), int(entry)))
    return found


def _number(text: str) -> int:
    """A fence, or 0: jobs can write to where we read it from."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _find(attempt_id: AttemptId, node_id: str) -> _Marked | None:
    return next((one for one in _scan(node_id) if one.attempt_id == attempt_id), None)
