"""Responses: JSON bytes made by msgspec, and what OpenAPI says of failures."""

from typing import Any

import msgspec
from starlette.responses import Response

from windlass.api.problems import MEDIA
from windlass.api.schemas import Problem


def reply(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(document), status, headers, "application/json")


_MEANING = {
    400: "The request can't be understood.",
    401: "No token, or one that opens nothing here.",
    403: "The token's role is not enough; `x-least-role` says which one is.",
    404: "No such thing.",
    409: "The thing's state does not allow this.",
    413: "The body is too large.",
    415: "Not JSON.",
    422: "Not valid: `errors` names each field, its value and the fix.",
    503: "The ledger can't answer now; `Retry-After` says when to try again.",
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these, and for 503 always. The document holds COMPONENTS."""
    content = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANING[status], "content": content} for status in (*statuses, 503)}


def _components() -> dict[str, Any]:
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**problem.pop("$defs"), "Problem": problem}


COMPONENTS = _components()
