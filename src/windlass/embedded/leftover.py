"""Servers a killed supervisor left behind: find the ones of this very folder, end them, touch nothing else."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

from windlass.errors import WindlassError

_POLITE_S, _FIRM_S = 10.0, 5.0


def occupants(folder: Path, program: str) -> list[int]:
    """Process ids of this program that work in this folder. Both servers make their data folder their own."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            at_home = os.path.samefile(entry / "cwd", folder)
            if at_home and Path(os.readlink(entry / "exe")).name.removesuffix(" (deleted)") == program:
                found.append(int(entry.name))
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


async def clear(folder: Path, program: str, polite: signal.Signals, firm: signal.Signals) -> None:
    """Return when no such process works in the folder any more. Raises WindlassError when one will not end."""
    for number, patience in ((polite, _POLITE_S), (firm, _FIRM_S)):
        left = occupants(folder, program)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            left = occupants(folder, program)
        if not left:
            return
    raise WindlassError(f"{program} of an earlier run still works in {folder} as process {left[0]} and does not end")
