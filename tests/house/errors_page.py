"""docs/reference/errors.md: every problem the API answers with, and where the command line and Python say the same."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import windlass.api
from windlass.api import problems
from windlass.cli import exits
from windlass.client.errors import ApiError, Problem, api_error

#: For each code: when it comes, and what to do.
WORDS: dict[str, tuple[str, str]] = {
    "bad-request": (
        "The body is no JSON, or not the kind of document this route takes.",
        "Look at `detail`, which says where reading stopped.",
    ),
    "unauthenticated": (
        "No token came along, or one that opens nothing: unknown, mistyped, expired, revoked. `detail` says which.",
        "Set `WINDLASS_TOKEN` or `WINDLASS_TOKEN_FILE`. [Who may do what](../how-to/access.md).",
    ),
    "forbidden": (
        "The token's role is not enough for this; `detail` says which one is.",
        "Have an admin make a token with that role: `windlass token create --role ROLE`.",
    ),
    "not-found": (
        "No job, node or attempt has that id or name, or its time to live is over.",
        "Check the id. `windlass ps --all` and `windlass nodes` list what there is.",
    ),
    "method-not-allowed": ("The path is right, the method is not.", "See the [API](api.md) for what it offers."),
    "conflict": (
        "The job or node is in a state that does not allow this, such as deleting a job that runs.",
        "Look at its state with `windlass show ID`, and ask again when it fits.",
    ),
    "too-large": (
        "The body is over the limit: 1 MiB for one job, 16 MiB and 1,000 jobs for a batch.",
        "Send less at once; hand over large input as a file or in the image.",
    ),
    "unsupported-media-type": ("The body's type is not read here.", "Send `Content-Type: application/json`."),
    "wrong-host": (
        "An API that listens on loopback was called by another name. This guards against pages that point their own "
        "name at your machine.",
        "Call it as `127.0.0.1` or `localhost`; for other names let it listen on another address.",
    ),
    "invalid": ("A parameter of the URL or a header makes no sense.", "`errors` names each with its fix."),
    "invalid-spec": (
        "The job's spec is not valid, or no node could ever hold it.",
        "`errors` names each field, its value and the fix. [What a job may say](job-spec.md).",
    ),
    "idempotency-mismatch": (
        "The `Idempotency-Key` was used before, with another payload.",
        "Take another key for another job; `detail` names the job the key belongs to.",
    ),
    "internal": (
        "Something unforeseen happened in the API.",
        "Its log holds the error under the `request_id` of the answer. Asking again is safe with an `Idempotency-Key`.",
    ),
    "unavailable": (
        "PostgreSQL does not answer now, so nothing can be promised.",
        "Ask again after `Retry-After` seconds, with the same `Idempotency-Key`: whatever became of the first request, "
        "there will be one job. [What is going on](../explanation/faults.md#postgresql-away-slow-or-full).",
    ),
}

_HEAD = """\
# Errors

Made from the code by `make docs`; a test keeps it current. What the API can't do it answers with a problem document
(RFC 9457, `application/problem+json`). Its `type` is `urn:windlass:problem:` and a code; each code has a heading here.

```json
{{
  "type": "urn:windlass:problem:invalid-spec",
  "title": "The request is understood, but not valid",
  "status": 422,
  "detail": "resources.cpu: write cores as a number, such as 0.5, or thousandths, such as \\"500m\\"",
  "code": "invalid-spec",
  "request_id": "req_01m84h7zs6ehdr80hd3b355n33",
  "errors": [
    {{"field": "resources.cpu", "pointer": "/resources/cpu", "message": "write cores as a number", "value": "lots"}}
  ]
}}
```

`detail` is for people and may change; `status` and `code` are for programs and stay. `request_id` is also in the header
`X-Request-Id` of every answer, and in the API's log. `errors` is there where single fields are at fault.

The command line prints the same as two lines, `error:` and `hint:`, and exits with a code of its own
([exit codes](commands.md#exit-codes)); `windlass.client` raises a typed error.

| code | status | exit code | in Python |
|---|---|---|---|
{rows}
"""


class Kind(NamedTuple):
    """A kind of problem."""

    code: str
    status: int
    title: str


def kinds() -> list[Kind]:
    """Every kind the API can answer with, by status: one for each status, and those the code names itself."""
    titles: dict[int, tuple[str, str]] = problems._TITLES  # pyright: ignore[reportPrivateUsage]
    found = {code: Kind(code, status, title) for status, (code, title) in titles.items()}
    for status, code in named():
        found.setdefault(code, Kind(code, status, titles[status][1]))
    return sorted(found.values(), key=lambda kind: kind.status)


def named() -> Iterator[tuple[int, str]]:
    """The calls in the API's code that make a problem with a code of its own."""
    for call in calls("problem"):
        for keyword in call.keywords:
            if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                assert isinstance(call.args[0], ast.Constant), ast.unparse(call)
                yield int(str(call.args[0].value)), str(keyword.value.value)


def calls(name: str) -> Iterator[ast.Call]:
    """Every call of a function of that name in the API's code."""
    for file in sorted(Path(windlass.api.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
                yield node


def errors() -> str:
    """docs/reference/errors.md."""
    parts = [_HEAD.format(rows="\n".join(map(_row, kinds())))]
    for kind in kinds():
        when, remedy = WORDS[kind.code]
        parts.append(f"## {kind.code}\n\n*{kind.title}* (status {kind.status}). {when}\n\n{remedy}\n")
    return "\n".join(parts)


def _row(kind: Kind) -> str:
    error = api_error(Problem(status=kind.status, code=kind.code))
    known = exits.of_error(error)
    shown = type(error).__name__ if type(error) is not ApiError else "ApiError"
    return f"| [`{kind.code}`](#{kind.code}) | {kind.status} | {known[0].value if known else ''} | `{shown}` |"
