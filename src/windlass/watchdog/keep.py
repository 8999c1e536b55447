"""The keeper: parent of the jobs that run as processes, so that their exits are told to one who is there to hear them.

It is the subreaper of all they start: what leaves a job's process group or session becomes its child when its parent
ends, and is ended with its job. Whose such a stray is, its environment tells; of one that has wiped it, only when it
began is known, and it goes when the last job has ended that could have started it.
"""

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterable

from windlass.watchdog import procfs

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
#: A job starts with every signal as the system has it, whatever the worker or its parent (nohup) ignores.
_RESET = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_SCORE = "/proc/self/oom_score_adj"


class Kept:
    """One attempt. `exit` is (code or signal, whether it was a signal) once it has ended, `ran_s` how long it then had
    run, in seconds, if it was started here."""

    __slots__ = ("_began", "attempt", "exit", "fence", "pid", "ran_s")

    def __init__(self, attempt: str, fence: int, pid: int) -> None:
        self.attempt, self.fence, self.pid = attempt, fence, pid
        self.exit: tuple[int, bool] | None = None
        self.ran_s: float | None = None
        self._began = time.clock_gettime(time.CLOCK_BOOTTIME)

    def end(self, code: int, signalled: bool) -> None:
        """It has ended just now."""
        self.exit, self.ran_s = (code, signalled), time.clock_gettime(time.CLOCK_BOOTTIME) - self._began


class Keeper:
    """Everything this process is the parent of. `helpers` are children of our own."""

    def __init__(self, node: str) -> None:
        self._mark = node.encode()
        self.kept: dict[str, Kept] = {}
        self.helpers: dict[int, int | None] = {}  # pid: its exit code
        self._leaders: dict[int, Kept] = {}
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, b"windlass-dog", 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no job dumps core
        self._score = _spare_us()

    def running(self) -> list[Kept]:
        """Those that have not ended."""
        return list(self._leaders.values())

    def spawn(
        self,
        attempt: str,
        fence: int,
        *,
        program: str,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        out: str,
        err: str,
        address_space: int | None,
    ) -> int:
        """The process id of the attempt, started now unless it was before. Raises OSError, ValueError."""
        if attempt in self.kept:
            return self.kept[attempt].pid
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, out, _APPEND, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, err, _APPEND, 0o600),
        ]
        try:
            # posix_spawn knows no working directory: ours is lent for the call.
            os.chdir(cwd)
            pid = os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=_RESET)
        finally:
            os.chdir("/")
        self.kept[attempt] = self._leaders[pid] = Kept(attempt, fence, pid)
        if self._score is not None:
            _write(f"/proc/{pid}/oom_score_adj", self._score)
        if address_space is not None:
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_AS, (address_space, address_space))
        return pid

    def signal(self, attempt: str, number: int) -> None:
        """To its whole process group, if it runs. Until it is reaped, its number can't be another's."""
        kept = self.kept.get(attempt)
        if kept is not None and kept.exit is None:
            _kill_group(kept.pid, number)

    def forget(self, attempt: str) -> None:
        """Its exit is known elsewhere, or asked for by nobody: one that runs is ended."""
        kept = self.kept.pop(attempt, None)
        if kept is not None and kept.exit is None:
            _kill_group(kept.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """SIGKILL to every job, and to all that is ours."""
        for pid in self._leaders:
            _kill_group(pid, signal.SIGKILL)
        for pid in procfs.children():
            if pid not in self.helpers:
                _kill(pid)

    def reap(self) -> list[Kept]:
        """Take note of the children that have ended, and end what is left of their jobs. The jobs among them."""
        ended: list[Kept] = []
        any_child = False
        while (info := _ended_child()) is not None:
            any_child = True
            kept = self._leaders.pop(info.si_pid, None)
            if kept is not None:
                _kill_group(kept.pid, signal.SIGKILL)  # while its leader is unreaped the group's number is its own
                kept.end(info.si_status, info.si_code != os.CLD_EXITED)
                ended.append(kept)
            elif info.si_pid in self.helpers:
                self.helpers[info.si_pid] = info.si_status if info.si_code == os.CLD_EXITED else 255
            os.waitid(os.P_PID, info.si_pid, os.WEXITED)
        if any_child:
            self._end_strays()
        return ended

    def _end_strays(self) -> None:
        """Each that ends hands its children on to us, and brings us here again."""
        for pid in procfs.children():
            if pid not in self._leaders and pid not in self.helpers and not self._has_its_job(pid):
                _kill(pid)

    def _has_its_job(self, pid: int) -> bool:
        env = procfs.environment(pid)
        if env.get(b"WINDLASS_NODE_ID") == self._mark:
            kept = self.kept.get(env.get(b"WINDLASS_ATTEMPT_ID", b"").decode(errors="replace"))
            return kept is not None and kept.exit is None
        began = procfs.began(pid)
        return any(procfs.began(leader) <= began for leader in self._leaders)

    def strangers(self) -> dict[int, str]:
        """Processes with this node's mark that are not our children, with their attempts: what an earlier watchdog,
        killed since, had kept."""
        found: dict[int, str] = {}
        ours = set(procfs.children())
        for pid in procfs.everyone():
            env = procfs.environment(pid) if pid not in ours else {}
            if env.get(b"WINDLASS_NODE_ID") == self._mark and procfs.running(pid):
                attempt = env.get(b"WINDLASS_ATTEMPT_ID", b"").decode(errors="replace")
                if attempt not in self.kept:
                    found[pid] = attempt
        return found


def end(pids: Iterable[int]) -> None:
    """SIGKILL to each, and to the group it leads."""
    for pid in pids:
        try:
            leads = os.getpgid(pid) == pid
        except OSError:
            continue
        _kill_group(pid, signal.SIGKILL) if leads else _kill(pid)


def _ended_child() -> "os.waitid_result | None":
    """One that has ended, left to be reaped."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _spare_us() -> str | None:
    """When memory is short the kernel is to end a job before us, where we may ask for it. The score jobs get then."""
    before = procfs.read(_SCORE).decode().strip()
    return before if _write(_SCORE, "-900") else None


def _write(path: str, text: str) -> bool:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        return False
    return True
