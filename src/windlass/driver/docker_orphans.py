"""What an engine runs and does not know of.

An engine killed between the start of a container and the note of it says "created" ever after, though the command
runs; no call of its API reaches such a process (seen with Engine 20.10). The kernel still tells whose it is: its
control group carries the container's id.
"""

import contextlib
import os
import signal
from pathlib import Path


def kill_unknown(container_id: str) -> int:
    """SIGKILL every process this host shows in that container's control group; how many there were.

    Finds nothing, and returns 0, where the engine's processes are not to be seen: from inside another container, or
    with an engine on another machine.
    """
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if container_id in (process / "cgroup").read_text():
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    return killed
