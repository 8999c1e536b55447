"""Client commands: processor time of each, against a bare import of the libraries it is made of, in turn."""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from bench.report import Row

LIBRARIES = "anyio, asyncio, httpcore2, httpx2, msgspec, typer"
WITH_YAML = f"{LIBRARIES}, yaml"
#: Each command, and the libraries it is made of.
COMMANDS = {
    "ps": LIBRARIES,
    "show last": LIBRARIES,
    "logs last": LIBRARIES,
    "submit -f job.yaml": WITH_YAML,
    "run -d true": LIBRARIES,
    "--version": LIBRARIES,
}


def processor_s(folder: str, *command: str, **variables: str) -> float:
    """Return the seconds of processor time that a command takes there. Raise CalledProcessError when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=os.environ | variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


async def rate(port: int, supervisor: psutil.Process, quick: bool) -> list[Row]:
    """Measure the median of each command, and hold it to that of the import."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "job.yaml").write_text('command: ["true"]\n')
        return await asyncio.to_thread(_rows, folder, f"http://127.0.0.1:{port}", 5 if quick else 20)


def _rows(folder: str, url: str, rounds: int) -> list[Row]:
    def windlass(command: str) -> float:
        return processor_s(folder, sys.executable, "-m", "windlass", *command.split(), WINDLASS_URL=url)

    windlass("run -d true")
    bare: dict[str, list[float]] = {LIBRARIES: [], WITH_YAML: []}
    ours: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for _ in range(rounds):
        for libraries, times in bare.items():
            times.append(processor_s(folder, sys.executable, "-c", f"import {libraries}"))
        for command, times in ours.items():
            times.append(windlass(command))
    return [
        _row(command, statistics.median(ours[command]), statistics.median(bare[libraries]))
        for command, libraries in COMMANDS.items()
    ]


def _row(command: str, took: float, floor: float) -> Row:
    value = f"{took / floor:.2f} ({took * 1000:.0f} ms against {floor * 1000:.0f} ms)"
    return Row(f"`windlass {command}`, processor time against its libraries' import", value, "<= 1.4", "", took / floor)
