"""The worker's clock: seconds since boot, the same for every process of the machine, untouched by wall-clock jumps."""

import time
from pathlib import Path


def now() -> float:
    """Seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Which boot this is: moments of another one mean nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
