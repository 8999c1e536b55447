"""What the API answers, as typed values.

Words of a closed set (states, causes) are plain strings here and unknown fields are ignored, so that an older client
goes on working with a newer server.
"""

from datetime import datetime
from typing import Any

import msgspec

from windlass.client.errors import Problem

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try on one node. A signal n shows as exit_code 128 + n. `late` is what its node said of its end after it
    had been counted lost."""

    id: str = ""
    number: int
    node: str | None = None
    state: str
    exit_code: int | None = None
    cause: str | None = None
    message: str | None = None
    late: str | None = None
    placed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a waiting job fits one node, and with which numbers it does not."""

    node: str
    fits: bool
    reasons: list[str] = []


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed of a job. `ahead` counts the tasks before it in its queue."""

    reason: str | None = None
    explanation: list[Fit] = []
    ahead: int | None = None
    retries: int = 0
    infra_losses: int = 0
    cancel_requested: bool = False
    attempts: list[Attempt] = []


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the API shows it. `spec` is what was asked, as it was resolved."""

    id: str
    name: str | None = None
    state: str
    queue: str = "default"
    labels: dict[str, str] = {}
    spec: dict[str, Any] = {}
    created_at: datetime
    finished_at: datetime | None = None
    retry_of: str | None = None
    trace_id: str | None = None
    status: Status = Status()

    @property
    def terminal(self) -> bool:
        """Whether it has ended for good."""
        return self.state in TERMINAL

    @property
    def last_attempt(self) -> Attempt | None:
        """The newest attempt, None before the first."""
        return max(self.status.attempts, key=lambda attempt: attempt.number, default=None)


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Resources: cores and bytes."""

    cpu: float = 0
    memory: int = 0


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine with a worker. `attempts` counts the live ones; `facts` is what each driver says of itself."""

    id: str
    name: str
    state: str
    cordoned: bool = False
    draining: bool = False
    drain_until: datetime | None = None
    drivers: list[str] = []
    capacity: Amount = Amount()
    used: Amount = Amount()
    free: Amount = Amount()
    attempts: int = 0
    heartbeat_at: datetime | None = None
    registered_at: datetime | None = None
    version: str | None = None
    labels: dict[str, str] = {}
    facts: dict[str, dict[str, Any]] = {}


class Leader(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler that leads."""

    id: str
    host: str
    pid: int
    version: str = ""
    term: int
    since: datetime


class Standby(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduler that would lead next. `since` is when it started."""

    id: str
    host: str
    pid: int
    version: str = ""
    since: datetime
    seen_at: datetime


class JobCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Open jobs, counted up to 10,000 each."""

    queued: int = 0
    running: int = 0


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster at one glance; `leader` is None while nobody leads."""

    leader: Leader | None = None
    standbys: list[Standby] = []
    nodes: dict[str, int] = {}
    jobs: JobCounts = JobCounts()
    redis_degraded: bool = False
    redis_degraded_since: datetime | None = None
    version: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about a job; `cursor` resumes a stream behind it."""

    cursor: str
    at: datetime
    job_id: str | None = None
    type: str
    data: dict[str, Any] | None = None


class LogChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of output. `offset` counts bytes of that attempt's stream from 0."""

    attempt: int
    stream: str
    offset: int
    at: datetime | None = None
    data: bytes


class LogGap(msgspec.Struct, frozen=True, kw_only=True):
    """Output that is not there: `missing` bytes from `offset` on, and why."""

    attempt: int
    stream: str | None = None
    offset: int | None = None
    missing: int | None = None
    reason: str | None = None


class LogEnd(msgspec.Struct, frozen=True, kw_only=True):
    """All was read; `state` is the job's."""

    state: str | None = None


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list of jobs."""

    jobs: list[Job]
    next_cursor: str | None = None


class NodeList(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes."""

    nodes: list[Node]


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one job, oldest first."""

    events: list[Event]


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one job of a batch: its id, or the problem."""

    id: str | None = None
    error: Problem | None = None


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answers for a batch, in order."""

    results: list[BatchItem]


class Whoami(msgspec.Struct, frozen=True, kw_only=True):
    """Whose token it is. `anonymous`: nobody needs one there."""

    name: str
    role: str
    token_id: str | None = None
    anonymous: bool = False


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it may be shown. `uses_left` is a join token's: how many nodes may still join, None any number."""

    id: str
    name: str
    role: str
    node: str | None = None
    uses_left: int | None = None
    created_by: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class NewToken(Token, frozen=True, kw_only=True):
    """A token that was just made, with itself."""

    token: str = ""


class TokenList(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, newest first."""

    tokens: list[Token]


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One change, and who made it. `action` is the API's operation."""

    id: int
    at: datetime
    who: str
    role: str
    action: str
    target: str
    token_id: str | None = None
    request_id: str = ""
    detail: dict[str, Any] | None = None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Records, newest first."""

    records: list[AuditRecord]
    next_cursor: int | None = None
