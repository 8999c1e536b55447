"""Errors as HTTP: every failure is application/problem+json (RFC 9457) and says what to do next."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from windlass.core.spec import FieldError
from windlass.errors import Conflict, IdempotencyMismatch, NotFound, SpecError, Unavailable

log = structlog.get_logger("api")

request_id: ContextVar[str] = ContextVar("request_id", default="")

MEDIA = "application/problem+json"
RETRY_AFTER_S = 1

_TITLES = {
    400: ("bad-request", "The request can't be understood"),
    401: ("unauthenticated", "A token is needed that counts"),
    403: ("forbidden", "This token may not do this"),
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "This method is not offered here"),
    409: ("conflict", "The thing's state does not allow this"),
    413: ("too-large", "The request body is too large"),
    415: ("unsupported-media-type", "This media type is not read here"),
    421: ("wrong-host", "This host name is not served here"),
    422: ("invalid", "The request is understood, but not valid"),
    500: ("internal", "Something went wrong here"),
    503: ("unavailable", "The ledger can't answer now; try again"),
}


def problem(status: int, detail: str, *, code: str | None = None, errors: Sequence[FieldError] = ()) -> dict[str, Any]:
    """A problem's document."""
    default, title = _TITLES.get(status, (f"http-{status}", "The request failed"))
    code = code or default
    document: dict[str, Any] = {
        "type": f"urn:windlass:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id.get(),
    }
    if errors:
        document["errors"] = [
            {"field": e.field, "pointer": e.pointer, "message": e.message, "value": e.value} for e in errors
        ]
    return document


def answer(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """A problem as a response."""
    return Response(msgspec.json.encode(document), document["status"], headers, MEDIA)


def of(error: Exception) -> dict[str, Any]:
    """The problem an error of ours is."""
    match error:
        case SpecError():
            return problem(422, str(error), code="invalid-spec", errors=error.errors)
        case IdempotencyMismatch():
            return problem(422, str(error), code="idempotency-mismatch")
        case NotFound():
            return problem(404, str(error))
        case Conflict():
            return problem(409, str(error))
        case Unavailable():
            return problem(503, str(error))
        case _:
            return problem(500, "An error was logged under this request_id.")


def install(app: FastAPI) -> None:
    """Teach the app to answer with problems."""

    async def ours(request: Request, error: Exception) -> Response:
        document = of(error)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if document["status"] == 503 else None
        return answer(document, headers)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(problem(error.status_code, str(error.detail)), dict(error.headers or {}))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            FieldError(".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]), e["msg"], str(e["input"])[:80])
            for e in error.errors()
        ]
        detail = "; ".join(f"{e.field}: {e.message}" for e in errors)
        return answer(problem(422, detail, errors=errors))

    async def gone(request: Request, error: Exception) -> Response:
        return answer(problem(400, "the connection ended before the body did"))  # nobody reads it

    for kind in (SpecError, IdempotencyMismatch, NotFound, Conflict, Unavailable):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
