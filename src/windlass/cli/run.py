"""`windlass run`: submit one job, show its output as if it ran here, exit as it did."""

import os
from typing import Annotated, Any

import typer

from windlass.cli.attach import attach
from windlass.cli.exits import UsageFault
from windlass.cli.options import Raw, Url, pairs
from windlass.cli.session import go


def run(
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND...", help="What to run.")] = None,
    image: Annotated[str | None, typer.Option("--image", "-i", help="Container image; none: a process.")] = None,
    cpu: Annotated[str | None, typer.Option(help="Cores, such as 1, 0.5 or 500m.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", "-m", help="Memory, such as 512Mi or 1Gi.")] = None,
    memory_max: Annotated[str | None, typer.Option(help="Hard limit above what is reserved.")] = None,
    pids: Annotated[int | None, typer.Option(help="Most processes and threads.")] = None,
    shm_size: Annotated[str | None, typer.Option(help="Size of /dev/shm.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="KEY=VALUE, or KEY to pass it on.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="KEY=VALUE.")] = None,
    queue: Annotated[str | None, typer.Option(help="The line it waits in.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    max_retries: Annotated[int | None, typer.Option(help="3 (the default) is at most 4 attempts.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Run limit of each attempt, such as 90s.")] = None,
    deadline: Annotated[str | None, typer.Option(help="Limit from submit to the end.")] = None,
    queue_timeout: Annotated[str | None, typer.Option(help="Longest wait in the queue.")] = None,
    start_timeout: Annotated[str | None, typer.Option(help="Limit for pulling and creating.")] = None,
    begin: Annotated[str | None, typer.Option(help="Not before: 2026-12-01T06:00:00Z, or 10m from now.")] = None,
    stop_grace: Annotated[str | None, typer.Option(help="Between the stop signal and the kill.")] = None,
    workdir: Annotated[str | None, typer.Option("--workdir", "-w", help="Directory it starts in.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="User[:group] in the container.")] = None,
    network: Annotated[str | None, typer.Option(help="bridge or none.")] = None,
    driver: Annotated[str | None, typer.Option(help="docker or process.")] = None,
    volume: Annotated[list[str] | None, typer.Option("--volume", "-v", help="SOURCE:TARGET[:ro].")] = None,
    exclusive: Annotated[bool, typer.Option("--exclusive", help="Never two live copies.")] = False,
    ttl: Annotated[str | None, typer.Option(help="Delete it this long after its end.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key gives the same job.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the id and leave.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the job's output and errors.")] = False,
    raw: Raw = False,
    url: Url = None,
) -> int:
    """Run one job and show its output; exits with the job's code.

    windlass run --image python:3.12-slim --cpu 1 --memory 1Gi -e MODE=fast -- python3 -c 'print(6 * 7)'

    Ctrl-C cancels the job. COMMAND replaces the image's ENTRYPOINT; without one the image's own runs.
    """
    if not command and not image:
        raise UsageFault(
            "there is nothing to run", "name an image, a command or both: windlass run --image IMAGE -- CMD"
        )
    spec = _given(
        name=name, image=image, command=command, env=pairs("--env", env, os.environ.get), workdir=workdir, user=user,
        driver=driver, queue=queue, priority=priority, max_retries=max_retries, network=network,
        resources=_given(cpu=cpu, memory=memory, memory_max=memory_max, pids=pids, shm_size=shm_size),
        attempt_timeout=timeout, job_deadline=deadline, queue_timeout=queue_timeout, start_timeout=start_timeout,
        stop_grace=stop_grace, labels=pairs("--label", label), volumes=[_volume(item) for item in volume or []],
        exclusive=exclusive, ttl_after_finished=ttl, **_begin(begin),
    )  # fmt: skip
    return go(attach(spec, url=url, key=idempotency_key, detach=detach, quiet=quiet, raw=raw))


def _given(**fields: Any) -> dict[str, Any]:
    """The fields somebody gave: what is left out takes the server's default."""
    return {name: value for name, value in fields.items() if value not in (None, [], {}) and value is not False}


def _begin(given: str | None) -> dict[str, str]:
    """A moment has a date, a delay has none; the API checks either."""
    if given is None:
        return {}
    return {"not_before" if "-" in given else "start_delay": given}


def _volume(given: str) -> dict[str, Any]:
    match given.split(":"):
        case [source, target]:
            return {"source": source, "target": target}
        case [source, target, "ro" | "rw" as mode]:
            return {"source": source, "target": target, "read_only": mode == "ro"}
        case _:
            raise UsageFault(f"--volume {given!r} is not understood", "write it as --volume /source:/target[:ro]")
