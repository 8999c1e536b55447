"""Standing in for a job: its output is ours, its end is our end, and an interrupt cancels it.

1. submit; 2. copy the logs until the job has ended, and meanwhile say why when it waits; 3. exit as the job did.
A first SIGINT or SIGTERM cancels the job and goes on until it has ended; a second leaves at once.
"""

import asyncio
import signal
from typing import Any, Self

from windlass.cli import exits
from windlass.cli.logs import copy
from windlass.cli.session import connect
from windlass.cli.terminal import Output, complain, talk
from windlass.cli.verdict import ended, waiting
from windlass.client import Client, ClientError

TALK_AFTER_S = 2.0


class Interrupt:
    """The first signal is kept, and told by `wait`; the second cancels the task that made this."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._came = asyncio.Event()
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._hit, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def _hit(self, number: int) -> None:
        if self.signal is not None and self._task is not None:
            self._task.cancel()
        self.signal = number
        self._came.set()

    async def wait(self) -> None:
        """Return at the first signal."""
        await self._came.wait()


async def attach(
    spec: dict[str, Any], *, url: str | None, key: str | None, detach: bool, quiet: bool, raw: bool
) -> int:  # fmt: skip
    """Submit this spec and stand in for the job; the exit code."""
    with Interrupt() as interrupt:
        job = "the job, if it was submitted,"
        try:
            async with connect(url) as client:
                job = (await client.jobs.create(spec, idempotency_key=key)).id
                if detach and interrupt.signal is None:
                    print(job)
                    return exits.Code.OK
                if not quiet:
                    talk(f"{job} submitted")
                return await _follow(client, job, interrupt, Output(raw), quiet)
        except asyncio.CancelledError:
            if interrupt.signal is None:
                raise
            talk(f"left; {job} may still run")
            return 128 + interrupt.signal


async def _follow(client: Client, job: str, interrupt: Interrupt, output: Output, quiet: bool) -> int:
    side = [asyncio.create_task(_cancel_on(interrupt, client, job))]
    side += [] if quiet else [asyncio.create_task(_tell_why(client, job))]
    try:
        await copy(client.jobs.logs(job, follow=True), output)
        end = await client.jobs.wait(job)
    except ClientError as error:
        known = exits.of_error(error)
        if known is None:
            raise
        complain(known[1], f"the job goes on: see it again with `windlass logs -f {job}`")
        return known[0]
    finally:
        for task in side:
            task.cancel()
    if end.state != "succeeded":
        talk(ended(end))
    return exits.of_job(end) if interrupt.signal is None else 128 + interrupt.signal


async def _cancel_on(interrupt: Interrupt, client: Client, job: str) -> None:
    await interrupt.wait()
    talk(f"cancelling {job}; once more to leave at once")
    try:
        await client.jobs.cancel(job)
    except ClientError as error:
        complain([f"{job} could not be cancelled: {error}"], f"once more to leave, then `windlass cancel {job}`")


async def _tell_why(client: Client, job: str) -> None:
    """Says why the job waits, when it does for long, and again whenever that changes."""
    pause, said = TALK_AFTER_S, ""
    while True:
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 15.0)
        try:
            found = await client.jobs.get(job)
        except ClientError:
            continue
        why = waiting(found)
        if why and why != said:
            talk(why)
        said = why
