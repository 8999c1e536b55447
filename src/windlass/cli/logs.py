"""A job's output: `logs`, and the copying that `run` shares."""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import typer

from windlass.cli.exits import Code
from windlass.cli.options import JobArgument, Raw, Url
from windlass.cli.session import connect, go, job_id
from windlass.cli.terminal import Output, talk
from windlass.client import LogChunk, LogEnd, LogGap


def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until the job has ended.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this attempt.")] = None,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Only the last so many lines.")] = None,
    since: Annotated[str | None, typer.Option(help="Only newer: an RFC 3339 moment, or 90s, 10m, 2h ago.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only stdout, or only stderr.")] = None,
    raw: Raw = False,
    url: Url = None,
) -> int:
    """Show a job's output: its stdout on stdout, its stderr on stderr."""

    async def work() -> int:
        async with connect(url) as client:
            name = await job_id(client, job)
            items = client.jobs.logs(
                name, follow=follow, attempt=attempt, tail=tail, since=_moment(since), stream=stream
            )  # fmt: skip
            await copy(items, Output(raw))
        return Code.OK

    return go(work())


def _moment(given: str | None) -> str | None:
    """Durations as seconds; the API reads moments itself."""
    from windlass.core.quantity import parse_duration

    if given is None:
        return None
    try:
        return f"{parse_duration(given):g}"
    except ValueError:
        return given


async def copy(items: AsyncGenerator[LogChunk | LogGap | LogEnd, None], output: Output, number: int = 1) -> None:
    """Print output as it comes until it ends; says on stderr where an attempt later than `number` begins."""
    async with aclosing(items):
        async for item in items:
            match item:
                case LogChunk():
                    if item.attempt > number:
                        number = item.attempt
                        _say(f"attempt {number}")
                    output.write(item.stream, item.data)
                case LogGap():
                    what = "output" if item.missing is None else f"{item.missing} bytes of {item.stream or 'output'}"
                    _say(f"{what} missing: {item.reason or 'no reason was recorded'}")
                case LogEnd():
                    return


def _say(text: str) -> None:
    # Both may be one terminal: what the job said so far comes first.
    sys.stdout.flush()
    talk(text)
