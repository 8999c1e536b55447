"""`windlass submit`: jobs from files, one or a hundred thousand."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli import exits
from windlass.cli.exits import UsageFault
from windlass.cli.options import Format, Out, Url
from windlass.cli.render import emit_value
from windlass.cli.session import connect, go
from windlass.cli.specfile import Document, read
from windlass.cli.terminal import complain, talk
from windlass.cli.wait import conclude, wait_all
from windlass.client import ApiError, Client, Job

_TOLD = 20


def submit(
    files: Annotated[list[str], typer.Option("--file", "-f", help="YAML or JSON; - is standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit as the jobs did.")] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and files give the same jobs.")] = None,
    output: Out = Format.NAME,
    url: Url = None,
) -> int:
    """Submit jobs from files and print their ids.

    A file holds one job, a list, several YAML documents or JSON lines. Jobs that are refused don't stop the others.
    """

    async def work() -> int:
        documents = [document for file in files for document in read(_text(file), file)]
        async with connect(url) as client:
            results = await _send(client, documents, idempotency_key)
            refused = _complain(documents, results)
            ids = [_id(result) for result in results if not isinstance(result, ApiError)]
            if not wait:
                _print(results, output)
                return refused
            return (
                conclude(await wait_all(client, ids), output, single=len(documents) == 1) or refused if ids else refused
            )

    return go(work())


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageFault(f"{file} is not UTF-8 text", "save it as UTF-8") from None
    except OSError as fault:
        raise UsageFault(f"{file}: {fault.strerror}", "name a file that can be read, or - for standard input") from None


async def _send(client: Client, documents: list[Document], key: str | None) -> list[Job | str | ApiError]:
    """For each document its job or its id, or why it was refused."""
    if len(documents) > 1:
        return [*await client.jobs.create_many([document.spec for document in documents], idempotency_key=key)]
    try:
        return [await client.jobs.create(documents[0].spec, idempotency_key=key)]
    except ApiError as error:
        return [error]


def _complain(documents: list[Document], results: list[Job | str | ApiError]) -> int:
    """Say which were refused, where and why; the exit code of the first."""
    refused = [
        (document, error) for document, error in zip(documents, results, strict=True) if isinstance(error, ApiError)
    ]
    if not refused:
        return exits.Code.OK
    told = exits.of_error(refused[0][1])
    lines = [line for document, error in refused[:_TOLD] for line in _faults(document, error)]
    more = [f"and {len(refused) - _TOLD} more like these"] if len(refused) > _TOLD else []
    complain(lines + more, told[2] if told else "try again")
    if len(documents) > 1:
        talk(f"{len(documents) - len(refused)} of {len(documents)} jobs were accepted")
    return told[0] if told else exits.Code.SYSTEM


def _faults(document: Document, error: ApiError) -> Iterator[str]:
    for fault in error.errors:
        given = f" (given: {fault.value})" if fault.value is not None else ""
        yield f"{document.place(fault.pointer)}: {fault.field or 'spec'}: {fault.message}{given}"
    if not error.errors:
        yield f"{document.place()}: {error}"


def _id(result: Job | str) -> str:
    return result if isinstance(result, str) else result.id


def _print(results: list[Job | str | ApiError], output: Format) -> None:
    """Ids; or for each job what the API answered: one job in full, of several the ids and problems."""
    if output in (Format.NAME, Format.TABLE):
        for result in results:
            if not isinstance(result, ApiError):
                print(_id(result))
    elif len(results) > 1:
        answers = [{"error": r.problem} if isinstance(r, ApiError) else {"id": _id(r)} for r in results]
        for answer in answers if output is Format.JSONL else [answers]:
            emit_value(answer, output)
    elif not isinstance(results[0], ApiError):
        emit_value(results[0], output)
