"""Looking at jobs: ps, show, why."""

import shlex
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Annotated, Any

import typer

from windlass.cli.exits import Code
from windlass.cli.options import Format, JobArgument, Out, Url, Watch, pairs
from windlass.cli.render import View, emit, emit_value, since, table
from windlass.cli.session import connect, go, job_id
from windlass.cli.terminal import printable
from windlass.cli.verdict import ended, fault, took, waiting
from windlass.cli.watch import watch as watch_
from windlass.client import Attempt, Job

_SHOWN = 50


def _cells(job: Job) -> Sequence[str]:
    last = job.last_attempt
    exit_code = "" if last is None or last.exit_code is None else str(last.exit_code)
    ran = since(last.started_at, last.finished_at) if last and last.started_at else ""
    node = last.node or "" if last else ""
    return (
        job.id,
        job.name or "",
        job.state,
        str(len(job.status.attempts)),
        exit_code,
        node,
        ran,
        since(job.created_at),
    )


JOBS = View(("ID", "NAME", "STATE", "TRIES", "EXIT", "NODE", "RAN", "AGE"), _cells, lambda job: job.id)


def ps(
    state: Annotated[str | None, typer.Option("--state", "-s", help="Only jobs in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="Only with label KEY=VALUE.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only of this queue.")] = None,
    name: Annotated[str | None, typer.Option(help="Only of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = _SHOWN,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All, however many.")] = False,
    watch: Watch = False,
    output: Out = Format.TABLE,
    url: Url = None,
) -> int:
    """List jobs, newest first."""
    labels = pairs("--label", label)

    async def work() -> int:
        async with connect(url) as client:
            wanted: dict[str, Any] = {"state": state, "labels": labels, "queue": queue, "name": name}
            wanted["limit"] = None if everything else limit
            if watch:
                return await watch_(lambda: _collect(client.jobs.list(**wanted)), JOBS, output)
            if output in (Format.JSONL, Format.NAME):
                async for job in client.jobs.list(**wanted):
                    emit([job], JOBS, output)
            else:
                emit(await _collect(client.jobs.list(**wanted)), JOBS, output)
        return Code.OK

    return go(work())


async def _collect(found: AsyncIterator[Job]) -> list[Job]:
    return [job async for job in found]


def show(job: JobArgument, watch: Watch = False, output: Out = Format.TABLE, url: Url = None) -> int:
    """Show one job with all its attempts."""

    async def work() -> int:
        async with connect(url) as client:
            name = await job_id(client, job)
            if watch:
                return await watch_(lambda: _one(client.jobs.get(name)), JOBS, output, _over, _page)
            found = await client.jobs.get(name)
        if output is Format.TABLE:
            print("\n".join(_page(found)))
        elif output is Format.NAME:
            print(found.id)
        else:
            emit_value(found, output)
        return Code.OK

    return go(work())


def _over(jobs: Sequence[Job]) -> bool:
    return jobs[0].terminal


async def _one(job: Awaitable[Job]) -> list[Job]:
    return [await job]


def _page(job: Job) -> list[str]:
    spec = job.spec
    command: list[str] = [*(spec.get("command") or []), *(spec.get("args") or [])]
    facts = {
        "job": job.id,
        "name": job.name,
        "state": job.state,
        "why": ended(job) if job.state == "failed" else waiting(job),
        "image": spec.get("image"),
        "command": shlex.join(command),
        "queue": job.queue,
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(job.labels.items())),
        "retry of": job.retry_of,
        "trace": job.trace_id,
        "created": f"{job.created_at:%Y-%m-%d %H:%M:%S%z} ({since(job.created_at)} ago)",
        "took": since(job.created_at, job.finished_at) if job.finished_at else None,
        "retries": f"{job.status.retries} of {spec.get('max_retries', 3)}",
        "lost": str(job.status.infra_losses) if job.status.infra_losses else None,
    }
    lines = [f"{key:<10}{printable(value)}" for key, value in facts.items() if value]
    if job.status.attempts:
        header = ("ATTEMPT", "STATE", "NODE", "WAITED", "RAN", "EXIT", "CAUSE")
        lines += ["", *table(header, [_attempt(attempt) for attempt in job.status.attempts])]
        lines += [f"late report of attempt {a.number}: {printable(a.late)}" for a in job.status.attempts if a.late]
    return lines


def _attempt(attempt: Attempt) -> Sequence[str]:
    code = "" if attempt.exit_code is None else str(attempt.exit_code)
    waited = since(attempt.placed_at, attempt.started_at) if attempt.started_at else ""
    ran = took(attempt) or (since(attempt.started_at) if attempt.state == "running" else "")
    return (str(attempt.number), attempt.state, attempt.node or "", waited, ran, code, fault(attempt))


def why(job: JobArgument, output: Out = Format.TABLE, url: Url = None) -> int:
    """Say why a job is where it is, node by node."""

    async def work() -> int:
        async with connect(url) as client:
            found = await client.jobs.get(await job_id(client, job))
        if output is not Format.TABLE:
            emit_value({"id": found.id, "state": found.state, "status": found.status}, output)
            return Code.OK
        print(printable(_because(found)))
        if found.status.explanation and not found.terminal:
            nodes = [
                (fit.node, "yes" if fit.fits else "no", "; ".join(fit.reasons)) for fit in found.status.explanation
            ]
            print("\n".join(["", *table(("NODE", "FITS", "BECAUSE"), nodes)]))
        return Code.OK

    return go(work())


def _because(job: Job) -> str:
    if job.terminal:
        return ended(job)
    if job.status.cancel_requested:
        return f"{job.id} is being cancelled: {job.status.reason or 'its container has not ended yet'}"
    last = job.last_attempt
    if waiting(job) or last is None:
        return f"{job.id} is {waiting(job)}"
    ran = f" for {since(last.started_at)}" if last.started_at else ""
    return f"{job.id} runs on {last.node}{ran} (attempt {last.number})"
