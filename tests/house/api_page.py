"""docs/reference/api.md: the API's OpenAPI document, as a page to read."""

from collections.abc import Iterator
from typing import Any

from windlass.api.app import make_app
from windlass.settings import Settings

_HEAD = """\
# HTTP API

Made from the code by `make docs`; a test keeps it current. The same for programs: [openapi.json](openapi.json); to try
out: `/docs` of a running API. Names are in snake_case, moments in RFC 3339 and UTC, sizes in bytes, cores and seconds
as numbers. How to use it: [from a shell](../how-to/http.md), [from Python](../how-to/python.md).

- A **2xx** answer to a write means that PostgreSQL has it on its disk.
- **Failures** are [problem documents](errors.md), with a `code` for programs.
- **`Idempotency-Key`** on `POST /v1/jobs` and its like: the same key gives the same job, however often it is sent. The
  answer to a repeat is 200 and carries `Idempotency-Replayed: true`.
- **`X-Request-Id`** is on every answer; one that is sent along is kept.
- **Pages**: go on with `next_cursor` as `cursor` until it is null.
- **Additions** come without notice: skip fields and types of [events](events.md) you do not know.
"""
#: Documents that have a page of their own.
_ELSEWHERE = {"JobSpec": "job-spec.md", "Problem": "errors.md", "FieldFault": "errors.md"}


def api() -> str:
    """docs/reference/api.md."""
    document = make_app(Settings()).openapi()
    parts, section = [_HEAD], ""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] != section:
                section = operation["tags"][0]
                parts.append(f"## {section.capitalize()}\n")
            parts.append(_operation(f"{method.upper()} {path}", operation))
    parts.append("## Documents\n")
    schemas = document["components"]["schemas"]
    parts += [_document(name, schemas[name]) for name in sorted(schemas) if name not in _ELSEWHERE]
    return "\n".join(parts)


def _operation(title: str, operation: dict[str, Any]) -> str:
    words = " ".join(operation.get("description", "").split())
    summary = operation["summary"]
    parts = [f"### {title}\n", f"{summary}{'' if summary.endswith('?') else '.'} {words}".rstrip() + "\n"]
    rows = [_parameter(one) for one in operation.get("parameters", ())]
    rows += _body(operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema"))
    if rows:
        parts.append("\n".join(["| takes | | |", "|---|---|---|", *rows]) + "\n")
    parts.append("Answers " + ", ".join(_answers(operation["responses"])) + ".\n")
    return "\n".join(parts)


def _parameter(one: dict[str, Any]) -> str:
    place = {"path": "", "query": "?", "header": ""}[one["in"]]
    words = one.get("description", "")
    default = one["schema"].get("default")
    if default is not None:
        words = f"{words} Default: `{str(default).lower()}`.".strip()
    shown = f"`{{{one['name']}}}`" if one["in"] == "path" else f"`{place}{one['name']}`"
    return f"| {shown} | {_kind(one['schema'])} | {words} |"


def _body(schema: dict[str, Any] | None) -> list[str]:
    match schema:
        case None:
            return []
        case {"properties": dict(fields)}:
            return [f"| body: `{name}` | {_kind(one)} | {one.get('description', '')} |" for name, one in fields.items()]
        case _:
            return [f"| body | {_kind(schema)} | {schema.get('description', '')} |"]


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    for status, answer in sorted(responses.items()):
        content = answer.get("content", {})
        if "application/problem+json" in content:
            continue
        schema = content.get("application/json", {}).get("schema")
        shown = _kind(schema) if schema else ", ".join(f"`{kind}`" for kind in content)
        yield f"{status} {shown}".rstrip()
    problems = [s for s, a in sorted(responses.items()) if "application/problem+json" in a.get("content", {})]
    if problems:
        yield f"or a [problem](errors.md) with {', '.join(problems)}"


def _document(name: str, schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"### {name}\n\nOne of " + ", ".join(f"`{word}`" for word in schema["enum"]) + ".\n"
    rows = [
        f"| `{field}` | {_kind(one)} | {one.get('description', '')} |"
        for field, one in schema.get("properties", {}).items()
    ]
    words = f"{' '.join(schema['description'].split())}\n\n" if schema.get("description") else ""
    return f"### {name}\n\n{words}" + "\n".join(["| field | is | |", "|---|---|---|", *rows]) + "\n"


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a word or two, with a link where it is a document."""
    match schema:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return f"[{name}]({_ELSEWHERE.get(name, '#' + name.lower())})"
        case {"anyOf": list(choices)} | {"allOf": list(choices)} | {"oneOf": list(choices)}:
            return " or ".join(_kind(choice) for choice in choices)
        case {"enum": list(words)}:
            return " \\| ".join(f"`{word}`" for word in words)
        case {"type": "array", "items": dict(items)}:
            return f"list of {_kind(items)}"
        case {"type": "string", "format": "date-time"}:
            return "moment"
        case {"type": list(kinds)}:
            return " or ".join(kinds)
        case {"type": str(kind)}:
            return {"integer": "whole number", "boolean": "true or false"}.get(kind, kind)
        case _:
            return ""
