"""What the SDK raises.

ClientError
├── Unreachable      no answer: refused, cut or too slow
├── WaitTimeout      the job did not end in the time given (also a TimeoutError)
├── Unexpected       an answer that no Windlass API gives; the URL is probably another server's
└── ApiError         the API refused; carries what its problem+json said
    ├── InvalidRequest   400, 422: the spec or the request is wrong; `errors` names the fields
    ├── AccessDenied     401, 403
    ├── NotFound         404
    ├── Conflict         409, 412
    ├── LimitExceeded    413, 429
    └── ServerError      5xx
"""

import msgspec


class FieldFault(msgspec.Struct, frozen=True, kw_only=True):
    """One faulty field: its path as users write it (`resources.cpu`), its JSON Pointer, and the fix."""

    field: str = ""
    pointer: str = ""
    message: str = ""
    value: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error, RFC 9457."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str | None = None
    code: str = ""
    errors: list[FieldFault] = []
    request_id: str | None = None


class ClientError(Exception):
    """Root of all errors the SDK raises."""


class Unreachable(ClientError):
    """No answer from the API."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"cannot reach {url}: {why}")
        self.url, self.why = url, why


class WaitTimeout(ClientError, TimeoutError):
    """The job did not end in the time given; it goes on."""

    def __init__(self, job_id: str, seconds: float, state: str) -> None:
        super().__init__(f"{job_id} is still {state} after {round(seconds, 1):g} s")
        self.job_id, self.seconds, self.state = job_id, seconds, state


class Unexpected(ClientError):
    """An answer that no Windlass API gives."""


class ApiError(ClientError):
    """The API refused. `retry_after` is in seconds, None when it did not say."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem.detail or problem.title or f"HTTP status {problem.status}")
        self.problem, self.retry_after = problem, retry_after
        self.status, self.code, self.errors = problem.status, problem.code, problem.errors
        self.request_id = problem.request_id


class InvalidRequest(ApiError):
    """The spec or the request is wrong; `errors` names the fields."""


class AccessDenied(ApiError):
    """No token, a wrong one, or one without this right."""


class NotFound(ApiError):
    """No such thing."""


class Conflict(ApiError):
    """The thing exists, but its state does not allow this."""


class LimitExceeded(ApiError):
    """Too large or too many."""


class ServerError(ApiError):
    """The API failed, or what it stands on did."""


_KINDS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    422: InvalidRequest,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: LimitExceeded,
    429: LimitExceeded,
}


def api_error(problem: Problem, retry_after: float | None = None) -> ApiError:
    """The typed error for a problem."""
    kind = _KINDS.get(problem.status, ServerError if problem.status >= 500 else ApiError)
    return kind(problem, retry_after)
