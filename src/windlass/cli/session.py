"""What client commands share: the client for this command line, and running a coroutine to its exit code."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

import typer

from windlass.cli.exits import Code, UsageFault
from windlass.client import DEFAULT_URL, Client, ClientError

LAST = "last"


def connect(url: str | None, *, timeout: float = 30.0, retries: int = 3) -> Client:
    """A client for --url, else WINDLASS_URL, else this machine; it sends the token, and trusts the CA, that variables
    name."""
    url = url or os.environ.get("WINDLASS_URL") or DEFAULT_URL
    try:
        return Client(url, timeout=timeout, retries=retries)
    except ValueError as fault:
        raise UsageFault(str(fault), "see --url, WINDLASS_URL, WINDLASS_TOKEN_FILE and WINDLASS_CA_FILE") from None


def go(work: Coroutine[Any, Any, int]) -> int:
    """Run to the end and give its exit code. A reader that went away (`| head`) ends it quietly."""
    try:
        code = asyncio.run(work)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end, which must not fail aloud.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Code.PIPE


async def job_id(client: Client, given: str) -> str:
    """The id a person meant: `last` is the newest job."""
    if given != LAST:
        return given
    async for job in client.jobs.list(limit=1):
        return job.id
    raise UsageFault("there is no job yet", "submit one with `windlass run`")


async def _newest(prefix: str) -> list[tuple[str, str]]:
    async with connect(None, timeout=0.3, retries=0) as client:
        return [(job.id, f"{job.state} {job.name or ''}") async for job in client.jobs.list(limit=30)]


def complete_job(incomplete: str) -> list[tuple[str, str]]:
    """Ids for the shell's completion, newest first; silent and soon over when the API does not answer."""
    try:
        found = asyncio.run(_newest(incomplete))
    except (ClientError, UsageFault, typer.Exit):
        found = []
    return [pair for pair in [*found, (LAST, "the newest job")] if pair[0].startswith(incomplete)]
