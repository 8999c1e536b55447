"""`windlass chaos`: break a cluster on purpose, and see whether it keeps its promises."""

import json
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.exits import Code, UsageFault
from windlass.cli.options import seconds


class Driver(StrEnum):
    """What runs the jobs."""

    PROCESS = "process"
    DOCKER = "docker"


class Form(StrEnum):
    """How the report is printed."""

    TEXT = "text"
    JSON = "json"


Duration = Annotated[str, typer.Option(help="How long faults go on, such as 90s or 1h.")]
Seed = Annotated[int | None, typer.Option(help="Chooses the faults; the same seed, the same choice.")]
Every = Annotated[str, typer.Option(help="Time between faults, on average.")]
Count = Annotated[int | None, typer.Option(min=1, help="End after so many faults.")]
Image = Annotated[str, typer.Option(help="For --driver docker: an image with a shell.")]
Load = Annotated[str, typer.Option(help="Jobs a second, or half: half of the room in use on average.")]
Faults = Annotated[str | None, typer.Option(help="Only these kinds, such as leader-kill,flushall.", show_default="all")]
Spare = Annotated[bool, typer.Option("--spare", help="Never kill the first of each role, to watch its memory.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the folder with the evidence and all logs.")]
Output = Annotated[Form, typer.Option("--output", "-o", help="How to print the report.")]
Where = Annotated[
    Path | None, typer.Option("--report", help="Also write report.txt, report.json and timeline.svg into this folder.")
]


def chaos(
    duration: Duration = "60s",
    seed: Seed = None,
    driver: Annotated[Driver, typer.Option(help="What runs the jobs.")] = Driver.PROCESS,
    every: Every = "5s",
    count: Count = None,
    load: Load = "6",
    faults: Faults = None,
    image: Image = "busybox",
    spare: Spare = False,
    keep: Keep = False,
    report: Where = None,
    output: Output = Form.TEXT,
) -> int:
    """Start a cluster, break it at random under load, and check every promise. Exit code 1: one broke."""
    from windlass import service
    from windlass.chaos.picture import draw
    from windlass.chaos.run import Chaos, Options

    options = Options(
        duration_s=seconds("--duration", duration) or 0.0,
        seed=secrets.randbelow(10**6) if seed is None else seed,
        every_s=seconds("--every", every) or 0.1,
        count=count,
        driver=driver.value,
        image=image,
        rate=_rate(load),
        faults=_kinds(faults),
        spare=spare,
        keep=keep,
    )
    run = Chaos(options)
    service.run(run.run, forced=run.kill)
    if run.report is None:
        return Code.INTERRUPT
    values = json.dumps(run.report.json(), indent=1)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "report.json").write_text(values + "\n")
        (report / "report.txt").write_text(run.report.text() + "\n")
        (report / "timeline.svg").write_text(draw(run.report))
    print(values if output is Form.JSON else run.report.text())
    return Code.OK if run.report.good else 1


def _rate(load: str) -> float | None:
    if load == "half":
        return None
    try:
        rate = float(load)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise UsageFault(f"--load {load!r} is no rate", "give jobs a second, such as 6, or half")
    return rate


def _kinds(names: str | None) -> tuple[str, ...]:
    from windlass.chaos.faults import FAULTS

    chosen = tuple(FAULTS if names is None else filter(None, names.split(",")))
    unknown = [name for name in chosen if name not in FAULTS]
    if unknown or not chosen:
        raise UsageFault(f"--faults {names!r}: no such kind", f"there are: {', '.join(FAULTS)}")
    return chosen
