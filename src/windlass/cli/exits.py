"""Exit codes: what a script can rely on, and the two lines an error gets, what it is and what to do next."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windlass.client.models import Job


class Code(IntEnum):
    """Exit codes of every command. `run` and `wait` also pass on a job's own code."""

    OK = 0
    NO_LEADER = 1
    FINDINGS = 1
    USAGE = 2
    NOT_FOUND = 3
    ACCESS = 4
    CONFLICT = 5
    TIMEOUT = 6
    UNREACHABLE = 7
    LIMIT = 8
    SYSTEM = 125
    INTERRUPT = 130
    PIPE = 141


MEANING = {
    Code.OK: "done",
    Code.NO_LEADER: "no scheduler leads (status), or something is wrong (doctor)",
    Code.USAGE: "wrong usage, or a spec the API refuses",
    Code.NOT_FOUND: "no such job or node",
    Code.ACCESS: "no token, or not allowed",
    Code.CONFLICT: "the job's state does not allow it",
    Code.TIMEOUT: "not finished in the time given",
    Code.UNREACHABLE: "the API does not answer",
    Code.LIMIT: "too large or too many",
    Code.SYSTEM: "the job failed with no exit code of its own, or Windlass did",
    Code.INTERRUPT: "interrupted, or the job was cancelled",
    Code.PIPE: "the reader of the output went away",
}

_OWN_CODE = frozenset({"exit_code", "signal", "oom"})


class UsageFault(Exception):
    """The command was given something it cannot use; `hint` says what to give instead."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


def of_job(job: "Job") -> int:
    """The exit code that stands for how a job ended: its own where it has one."""
    if job.state == "succeeded":
        return Code.OK
    if job.state == "cancelled":
        return Code.INTERRUPT
    last = job.last_attempt
    if last is not None and last.cause in _OWN_CODE and last.exit_code is not None and 0 < last.exit_code < 256:
        return last.exit_code
    return Code.SYSTEM


def of_error(error: Exception) -> tuple[Code, list[str], str] | None:
    """An error's exit code, what it is in lines, and what to do next; None for an error nobody foresaw."""
    if isinstance(error, UsageFault):
        return Code.USAGE, [str(error)], error.hint
    from windlass.client import errors as sdk

    match error:
        case sdk.InvalidRequest(code="idempotency-mismatch"):
            return Code.USAGE, [str(error)], "give the new payload another --idempotency-key"
        case sdk.InvalidRequest():
            faults = [f"{fault.field or 'spec'}: {fault.message}{_given(fault.value)}" for fault in error.errors]
            return Code.USAGE, faults or [str(error)], "correct it and try again"
        case sdk.AccessDenied():
            return Code.ACCESS, [str(error)], "set WINDLASS_TOKEN, or WINDLASS_TOKEN_FILE, to a token that may do this"
        case sdk.NotFound():
            return Code.NOT_FOUND, [str(error)], "see what there is with `windlass ps --all` or `windlass nodes`"
        case sdk.Conflict():
            return Code.CONFLICT, [str(error)], "see its state with `windlass show ID`"
        case sdk.LimitExceeded():
            return Code.LIMIT, [str(error)], _later(error) if error.status == 429 else "send less at once"
        case sdk.ApiError():
            request = f" (request {error.request_id})" if error.request_id else ""
            return Code.SYSTEM, [f"{error}{request}"], _later(error)
        case sdk.WaitTimeout():
            return Code.TIMEOUT, [str(error)], "it goes on; wait again, or see why with `windlass why ID`"
        case sdk.Unreachable():
            return Code.UNREACHABLE, [str(error)], "start one with `windlass up`, or set --url or WINDLASS_URL"
        case sdk.Unexpected():
            return Code.UNREACHABLE, [str(error)], "check --url and WINDLASS_URL"
        case _:
            return None


def _given(value: str | None) -> str:
    return f" (given: {value})" if value is not None else ""


def _later(error: Exception) -> str:
    after: float | None = getattr(error, "retry_after", None)
    return f"try again in {after:g} s" if after else "try again; if it stays, look at the server's log"
