"""`windlass doctor`: what is wrong here, or soon will be, and what to do about it."""

import asyncio
import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.exits import Code
from windlass.cli.options import Format, Out, Url
from windlass.cli.render import emit_value
from windlass.cli.terminal import paint, printable
from windlass.doctor.findings import Finding, Report, Severity

STYLE = {
    Severity.OK: "green",
    Severity.SKIPPED: "dim",
    Severity.NOTE: "cyan",
    Severity.WARNING: "yellow",
    Severity.ERROR: "red",
}
#: Letters of the longest check.
_WIDE = 30
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings; else WINDLASS_CONFIG.")]
RoleName = Annotated[
    str, typer.Option("--role", help="Look at this host as: api, scheduler, worker, client, or any.", metavar="ROLE")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="The data folder of `windlass up`, for a look at its servers.")
]
Probe = Annotated[bool, typer.Option("--probe", help="Also run a job that tries what it must not be able to do.")]
Image = Annotated[str, typer.Option("--image", help="The probe's image; it needs sh, and best a busybox.")]


def doctor(
    role: RoleName = "any",
    config: Config = None,
    data: Data = None,
    probe: Probe = False,
    image: Image = "busybox",
    output: Out = Format.TABLE,
    url: Url = None,
) -> int:
    """Look this host and its servers over, and say what to do about each finding. Exits with 1 when one is an error.

    With --probe a job also tries what no job may do, such as mounting or reaching the engine, on whichever node it is
    placed.
    """
    from windlass.doctor.examine import examine
    from windlass.doctor.site import site_of

    site = site_of(role, config, data, url)
    report = asyncio.run(examine(dataclasses.replace(site, probe=image if probe else ""))).report
    if output is Format.TABLE:
        print("\n".join(lines(report)))
    elif output is Format.NAME:
        print("\n".join(finding.check for finding in report.findings if finding.fix))
    else:
        emit_value(report, output)
    return Code.FINDINGS if report.worst is Severity.ERROR else Code.OK


def lines(report: Report) -> list[str]:
    """The findings as people read them: a line each, and below it what to do."""
    found: list[str] = []
    for finding in report.findings:
        found += _shown(finding)
    told = [f"{report.counts[one]} {one}" for one in reversed(Severity) if report.counts.get(one)]
    return [*found, "", ", ".join(told)]


def _shown(finding: Finding) -> list[str]:
    word = paint(f"{finding.severity:<8}", STYLE[finding.severity], sys.stdout)
    first = f"{word} {finding.check:<{_WIDE}} {printable(finding.what)}"
    fix = printable(finding.fix)
    return [first, f"{'':8} {'':{_WIDE}} fix: {fix}"] if fix else [first]
