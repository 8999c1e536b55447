"""Rows of the result, and the machine they come from."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure. `must` and `aim` are what it is held to, in words; `ratio` is what bench/promises.py holds."""

    what: str
    value: str
    must: str = ""
    aim: str = ""
    ratio: float | None = None


def machine() -> str:
    """One line: cores, memory, processor, kernel, Python."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({model}), {gib:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| what | measured | must | aim |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.value} | {row.must} | {row.aim} |" for row in rows]
    return "\n".join(lines)
