"""Options that several commands share, so that they read the same everywhere."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from windlass.cli.exits import UsageFault
from windlass.cli.session import complete_job


class Format(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"


Url = Annotated[str | None, typer.Option("--url", help="URL of the API; else WINDLASS_URL.", show_default=False)]
Out = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or last.", autocompletion=complete_job)]
JobArguments = Annotated[
    list[str], typer.Argument(metavar="JOB...", help="Ids of jobs, or last.", autocompletion=complete_job)
]
Watch = Annotated[bool, typer.Option("--watch", "-W", help="Go on, and show every change.")]
Raw = Annotated[bool, typer.Option("--raw", help="Leave terminal escape sequences in the output.")]


def pairs(option: str, given: list[str] | None, default: Callable[[str], str | None] | None = None) -> dict[str, str]:
    """KEY=VALUE options as a map; a KEY alone takes its value from `default`, where there is one."""
    found: dict[str, str] = {}
    for item in given or []:
        key, equals, value = item.partition("=")
        known = value if equals else default(key) if default else None
        if not key or known is None:
            fix = f"write it as {option} KEY=VALUE" + (", or set the variable KEY" if default else "")
            raise UsageFault(f"{option} {item!r} has no value", fix)
        found[key] = known
    return found


def seconds(option: str, given: str | None) -> float | None:
    """A duration option, such as 90, 90s or 1h30m, in seconds."""
    from windlass.core.quantity import parse_duration

    if given is None:
        return None
    try:
        return parse_duration(given)
    except ValueError as fault:
        raise UsageFault(f"{option} {given!r}: {fault}", f"for instance {option} 90s") from None
