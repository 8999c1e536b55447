"""Crash points: places where a test ends this process as a power cut would. Off unless WINDLASS_CRASH_AT names one."""

import os
import signal

VARIABLE = "WINDLASS_CRASH_AT"
_AT = os.environ.get(VARIABLE)


def point(name: str) -> None:
    """End this process with SIGKILL, if this is the place that was asked for."""
    if name == _AT:
        os.kill(os.getpid(), signal.SIGKILL)
