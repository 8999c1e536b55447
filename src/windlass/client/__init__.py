"""The Python SDK, which the command line uses too."""

from windlass.client.client import DEFAULT_URL, Client
from windlass.client.errors import (
    AccessDenied,
    ApiError,
    ClientError,
    Conflict,
    FieldFault,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Problem,
    ServerError,
    Unexpected,
    Unreachable,
    WaitTimeout,
)
from windlass.client.models import Amount, Attempt, Event, Fit, Job, LogChunk, LogEnd, LogGap, Node, Status

__all__ = [
    "DEFAULT_URL",
    "AccessDenied",
    "Amount",
    "ApiError",
    "Attempt",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "FieldFault",
    "Fit",
    "InvalidRequest",
    "Job",
    "LimitExceeded",
    "LogChunk",
    "LogEnd",
    "LogGap",
    "Node",
    "NotFound",
    "Problem",
    "ServerError",
    "Status",
    "Unexpected",
    "Unreachable",
    "WaitTimeout",
]
