"""Waiting for jobs, and what their end means for the exit code."""

import asyncio
from typing import Annotated

import typer

from windlass.cli import exits
from windlass.cli.options import Format, JobArguments, Out, Url, seconds
from windlass.cli.render import emit, emit_value
from windlass.cli.session import connect, go, job_id
from windlass.cli.terminal import talk
from windlass.cli.verdict import ended
from windlass.client import Client, Job

_AT_ONCE = 32


def wait(
    jobs: JobArguments,
    timeout: Annotated[str | None, typer.Option(help="Longest wait for all, such as 90s; they go on.")] = None,
    output: Out = Format.NAME,
    url: Url = None,
) -> int:
    """Wait until jobs have ended, in whatever state; exits with the code of the first that did not succeed."""
    limit = seconds("--timeout", timeout)

    async def work() -> int:
        async with connect(url) as client:
            names = [await job_id(client, given) for given in jobs]
            return conclude(await wait_all(client, names, limit), output, single=len(names) == 1)

    return go(work())


async def wait_all(client: Client, ids: list[str], timeout: float | None = None) -> list[Job]:
    """The jobs once all have ended, in order; says each failure as it happens. Raises WaitTimeout."""
    gate = asyncio.Semaphore(_AT_ONCE)
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout

    async def one(name: str) -> Job:
        async with gate:
            left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
            job = await client.jobs.wait(name, timeout=left)
        if job.state != "succeeded":
            talk(ended(job))
        return job

    waits = [asyncio.ensure_future(one(name)) for name in ids]
    try:
        return list(await asyncio.gather(*waits))
    finally:
        for pending in waits:
            pending.cancel()


def conclude(jobs: list[Job], output: Format, *, single: bool) -> int:
    """Print the ended jobs and give the exit code that stands for them all."""
    from windlass.cli.jobs import JOBS

    if single and output in (Format.JSON, Format.YAML):
        emit_value(jobs[0], output)
    else:
        emit(jobs, JOBS, output)
    return next((code for code in map(exits.of_job, jobs) if code), exits.Code.OK)
