"""Child processes: spawn, wait without a thread, end politely and then not.

A child has its own session, so a terminal's Ctrl-C reaches only the parent, and is told by the kernel when the parent
dies, so kill -9 of the parent leaves nothing behind.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from windlass.embedded.account import Account

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """One running child. Make it with `spawn`, from the main thread and inside the event loop."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._ending = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path,
        account: Account | None = None,
        orphan_signal: signal.Signals = signal.SIGKILL,
    ) -> Self:
        """Start argv with its output appended to `log`; `orphan_signal` reaches it when this process dies."""
        parent = os.getpid()

        def tie() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, orphan_signal)
            if os.getppid() != parent:  # it died before the tie was made
                os._exit(1)

        with log.open("ab") as output:
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=tie,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        return cls(popen)

    @property
    def running(self) -> bool:
        """False once it has ended."""
        return not self._ended.done()

    async def wait(self) -> int:
        """Its exit code, -n for signal n, when it has ended. Any number may wait."""
        return await asyncio.shield(self._ended)

    async def end(self, polite: signal.Signals, within_s: float) -> int:
        """Ask it to end; after within_s seconds kill it. What is left of its process group goes with it."""
        self._ending = True
        self.send(polite)
        try:
            return await asyncio.wait_for(self.wait(), within_s)
        except TimeoutError:
            self.kill()
            return await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Signal it; nothing happens when it has ended."""
        if self.running:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """End it and its process group at once."""
        self._ending = True
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._ending:
            # Before the wait: as a zombie it still holds its id, so the group can't be somebody else's.
            os.killpg(self.pid, signal.SIGKILL)
        self._ended.set_result(self._popen.wait())
        os.close(self._pidfd)


def last_words(log: Path, lines: int = 10) -> str:
    """The end of a log, for a message about why something did not start."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        return b"\n".join(file.read().splitlines()[-lines:]).decode(errors="replace")
