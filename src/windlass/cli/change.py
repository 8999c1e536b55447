"""Changing jobs: cancel, retry, rm. Each takes several, goes on after one that fails, and tells the first failure."""

from collections.abc import Awaitable, Callable

from windlass.cli import exits
from windlass.cli.options import JobArguments, Url
from windlass.cli.session import connect, go, job_id
from windlass.cli.terminal import complain, talk
from windlass.client import Client, ClientError


def cancel(jobs: JobArguments, url: Url = None) -> int:
    """Cancel jobs. Each is `cancelled` once its container is gone; `wait` waits for that."""

    async def one(client: Client, name: str) -> str:
        job = await client.jobs.cancel(name)
        if job.terminal and job.state != "cancelled":
            talk(f"{job.id} had already {job.state}")
        return job.id

    return go(_each(jobs, url, one))


def retry(jobs: JobArguments, url: Url = None) -> int:
    """Run jobs again: a new job for one that has ended, at once for one that waits to be retried."""

    async def one(client: Client, name: str) -> str:
        job = await client.jobs.retry(name)
        talk(f"{job.id} retries {job.retry_of}" if job.retry_of else f"{job.id} goes at once")
        return job.id

    return go(_each(jobs, url, one))


def rm(jobs: JobArguments, url: Url = None) -> int:
    """Forget jobs that have ended, with their logs."""

    async def one(client: Client, name: str) -> str:
        await client.jobs.delete(name)
        return name

    return go(_each(jobs, url, one))


async def _each(jobs: list[str], url: str | None, change: Callable[[Client, str], Awaitable[str]]) -> int:
    first = exits.Code.OK
    async with connect(url) as client:
        for given in jobs:
            try:
                print(await change(client, await job_id(client, given)), flush=True)
            except ClientError as error:
                told = exits.of_error(error)
                if told is None:
                    raise
                code, lines, hint = told
                complain([line if given in line else f"{given}: {line}" for line in lines], hint.replace("ID", given))
                first = first or code
    return first
