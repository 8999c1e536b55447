"""Units under one roof: start them, bring a dead one back, end them in order.

A unit is a server or a role. Its cycle: start; wait for its end; say so; pause, longer each time; start again.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from windlass.embedded.child import Child, last_words
from windlass.errors import SettingsError, WindlassError

_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.2, 5.0
#: Who has lived this long starts again with the first pause.
_STEADY_S = 30.0
_TAIL_EVERY_S = 0.25
_EXIT_USAGE = 2

Say = Callable[[str], None]


class Unit(Protocol):
    """What is kept alive."""

    @property
    def name(self) -> str:
        """How it is called on the terminal."""
        ...

    async def start(self) -> object:
        """Start it; also again after its end. Raises WindlassError when it won't."""
        ...

    async def wait(self) -> int:
        """Its exit code when it has ended, -n for signal n."""
        ...

    async def stop(self) -> object:
        """End it, within a time of its own."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Role:
    """A role of Windlass as a child process. `patience_s` is what it gets for a polite end."""

    def __init__(self, role: str, name: str, env: Mapping[str, str], log: Path, patience_s: float) -> None:
        self.name = name
        self.log = log
        self._argv = [sys.executable, "-P", "-m", "windlass", role]
        self._env = env
        self._patience_s = patience_s
        self._child: Child | None = None

    async def start(self) -> None:
        """Start the process; it gets ready by itself."""
        self._child = Child.spawn(self._argv, log=self.log, env=self._env, cwd=self.log.parent)

    async def wait(self) -> int:
        """Its exit code when it has ended."""
        assert self._child is not None
        code = await self._child.wait()
        if code == _EXIT_USAGE:
            raise SettingsError(f"the {self.name} refuses its settings:\n{last_words(self.log, 2)}")
        return code

    async def stop(self) -> None:
        """End it and its process group."""
        if self._child is not None:
            await self._child.end(signal.SIGTERM, self._patience_s)

    def kill(self) -> None:
        """End it and its process group at once."""
        if self._child is not None:
            self._child.kill()


async def keep(unit: Unit, say: Say) -> None:
    """Bring the started unit back whenever it ends, until cancelled."""
    pause = _PAUSE_FIRST_S
    while True:
        started = time.monotonic()
        how = _ending(await unit.wait())
        if time.monotonic() - started > _STEADY_S:
            pause = _PAUSE_FIRST_S
        say(f"the {unit.name} {how}; it starts again in {pause:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, _PAUSE_MOST_S)
        try:
            await unit.start()
        except WindlassError as error:
            say(str(error))


async def stop_in_order(units: Sequence[Sequence[Unit]]) -> None:
    """End group after group; all of one group at the same time."""
    for group in units:
        await asyncio.gather(*(unit.stop() for unit in group))


async def show_errors(roles: Sequence[Role], say: Say) -> None:
    """Repeat on the terminal what roles log as errors from now on, until cancelled."""
    read = {role.log: _size(role.log) for role in roles}
    while True:
        await asyncio.sleep(_TAIL_EVERY_S)
        for role in roles:
            if _size(role.log) > read[role.log]:
                read[role.log] = _show_new(role, read[role.log], say)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _show_new(role: Role, offset: int, say: Say) -> int:
    """Say the errors past the offset; the offset behind the last whole line."""
    with role.log.open("rb") as file:
        file.seek(offset)
        whole, _, _ = file.read().rpartition(b"\n")
    for line in whole.splitlines():
        try:
            entry = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError:  # not a line of ours, such as a traceback
            continue
        if entry.pop("level", "") in ("error", "critical"):
            say(f"{role.name}: {_sentence(entry)}")
    return offset + len(whole) + 1 if whole else offset


def _sentence(entry: dict[str, object]) -> str:
    event = entry.pop("event", "")
    details = (f"{k}={v}" for k, v in entry.items() if k not in ("time", "role", "exception", "logger"))
    return " ".join((str(event), *details))


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
