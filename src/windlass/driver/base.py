"""The Driver protocol: the few verbs an agent needs to run an attempt in something.

Every verb is idempotent by attempt id, so that a restarted agent may ask again: "already prepared" and "already gone"
are answers, not errors. A driver keeps no promise in memory: what it needs to know again after a crash it reads from
the engine (labels, inspect) or from the attempt's folder.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from windlass.core.ids import AttemptId, JobId
from windlass.core.placement.snapshot import Room
from windlass.core.spec import JobSpec
from windlass.core.states import Cause
from windlass.core.trace import TraceContext


@dataclass(frozen=True, slots=True)
class Ticket:
    """All a driver needs to run one attempt. `folder` is the attempt's own, on the worker's disk."""

    attempt_id: AttemptId
    job_id: JobId
    number: int
    fence: int
    spec: JobSpec
    folder: Path
    #: where spans of the job's own belong
    trace: TraceContext | None = None
    #: whether this machine was started anew since the launch
    rebooted: bool = False


def environment(ticket: Ticket) -> dict[str, str]:
    """What every job finds in its environment beside what its driver adds: its spec's own variables, its place in a
    trace (OpenTelemetry's names) where the spec does not say another, and who it is."""
    spec, trace = ticket.spec.env, ticket.trace
    ours = {
        "WINDLASS_JOB_ID": ticket.job_id,
        "WINDLASS_ATTEMPT_ID": ticket.attempt_id,
        "WINDLASS_ATTEMPT": str(ticket.number),
        "WINDLASS_FENCE": str(ticket.fence),
    }
    if trace is None or "TRACEPARENT" in spec:
        return spec | ours
    about = {"job.id": ticket.job_id, "attempt.id": ticket.attempt_id, "attempt.number": ticket.number}
    named = [spec["OTEL_RESOURCE_ATTRIBUTES"]] if spec.get("OTEL_RESOURCE_ATTRIBUTES") else []
    told = ",".join([*named, *(f"windlass.{key}={value}" for key, value in about.items())])
    place = {"TRACEPARENT": trace.traceparent, "OTEL_RESOURCE_ATTRIBUTES": told}
    if trace.state:
        place["TRACESTATE"] = trace.state
    return spec | place | ours


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a container or process ended. `cause` is None for success. A signal n shows as exit_code 128 + n. It ran for
    `ran_s` seconds, where its engine tells."""

    exit_code: int | None
    cause: Cause | None
    message: str = ""
    ran_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Survivor:
    """Something of ours the driver found running or ended, for adoption or reaping."""

    attempt_id: AttemptId
    fence: int
    running: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output. `stream` is "stdout" or "stderr"; `offset` counts bytes of that stream from 0."""

    stream: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """What a driver says of itself to the node's description, e.g. engine and runtime versions; `capacity` where it
    knows better than the worker's settings how much there is to give away."""

    available: bool
    detail: str = ""
    versions: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    capacity: Room | None = None


class DriverFault(Exception):
    """An attempt cannot go on, with the cause to record."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause, self.message = cause, message


class EngineUnavailable(Exception):
    """The engine does not answer now: infrastructure, never the user's fault."""


class AnswerLost(EngineUnavailable):
    """It was asked and did not answer: whether it did what it was asked to is not known."""


class Driver(Protocol):
    """What starts containers."""

    name: str
    #: whether what is left of an attempt can tell its outcome even after a power cut: then it is removed only once the
    #: journal can
    keeps_outcome: bool
    #: whether the watchdog ends what runs once this node is cut off; else the agent does, while it lives
    watched: bool

    async def open(self) -> None:
        """Connect. Raises EngineUnavailable."""
        ...

    async def close(self) -> None:
        """Let go of connections; what runs goes on running."""
        ...

    async def facts(self) -> Facts:
        """Whether it can start something now, and why not."""
        ...

    def never_started(self, attempt_id: AttemptId, launched_at: float) -> bool:
        """Whether it is certain that nobody started this one, launched at that moment (seconds since boot). Where it
        can't be told: False."""
        ...

    async def prepare(self, ticket: Ticket) -> None:
        """Pull and create; nothing runs yet. Raises DriverFault(IMAGE_PULL | START_FAILED), EngineUnavailable. Where
        an image comes only with the start, `start` raises IMAGE_PULL."""
        ...

    async def start(self, ticket: Ticket) -> None:
        """Let it run. Raises DriverFault(START_FAILED | IMAGE_PULL), EngineUnavailable."""
        ...

    async def wait(self, ticket: Ticket) -> Outcome:
        """Return when it has ended, however long that takes; also for an adopted one."""
        ...

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        """Ask it to end, and after grace_s seconds make it. `wait` tells when it has."""
        ...

    def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """Output past the byte offsets in `after` (by stream), live, until it has ended and all is read."""
        ...

    async def remove(self, ticket: Ticket) -> None:
        """Delete what is left of it. Called only after its outcome is on the worker's disk."""
        ...

    async def survivors(self) -> list[Survivor]:
        """Everything of ours that exists, running or ended, after a restart."""
        ...
