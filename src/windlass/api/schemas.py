"""The API's answers, described for OpenAPI, and built: the models say the shape, the functions make the bytes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from windlass import __version__
from windlass.core.placement.explain import Explanation
from windlass.core.states import AttemptState, Cause, JobState, NodeState, job_state
from windlass.store.events import EventRow
from windlass.store.jobs import AttemptView, JobView
from windlass.store.nodes import NodeRow
from windlass.store.schedulers import Overview


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")


class FieldFault(Model):
    field: str = Field(examples=["resources.cpu"])
    pointer: str = Field(examples=["/resources/cpu"])
    message: str = Field(examples=["must be more than 0 and at most 100000 cores"])
    value: str | None = Field(default=None, examples=["-1"])


class Problem(Model):
    """RFC 9457."""

    type: str = Field(examples=["urn:windlass:problem:invalid-spec"])
    title: str
    status: int = Field(examples=[422])
    detail: str
    code: str = Field(examples=["invalid-spec"])
    request_id: str
    errors: list[FieldFault] = []


class NodeAnswer(Model):
    node: str = Field(examples=["worker-1"])
    fits: bool
    reasons: list[str] = Field(examples=[["has 0.5 cpu free (2 needed)"]])


class Attempt(Model):
    id: str = Field(examples=["att_01m84h80b3e7vrc3p9vq8ycjxn"])
    number: int = Field(examples=[1])
    node: str = Field(examples=["worker-1"])
    state: AttemptState
    exit_code: int | None = Field(examples=[0])
    cause: Cause | None
    message: str
    late: str | None = Field(description="What its node said of its end once it had been counted lost.")
    placed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Status(Model):
    reason: str | None = Field(description="Why it is where it is.")
    explanation: list[NodeAnswer] = Field(description="While queued: each node's answer, with numbers.")
    ahead: int | None = Field(description="While queued: how many are before it in line.")
    retries: int
    infra_losses: int
    cancel_requested: bool
    attempts: list[Attempt]


class Job(Model):
    id: str = Field(examples=["job_01m84h7zs6ehdr80hd3b355n33"])
    name: str | None
    state: JobState
    queue: str
    labels: dict[str, str]
    spec: dict[str, Any] = Field(description="What was asked, in canonical numbers: cores, bytes, seconds.")
    created_at: datetime
    finished_at: datetime | None
    retry_of: str | None
    trace_id: str | None = Field(
        description="The trace it was submitted in.", examples=["4bf92f3577b34da6a3ce929d0e0e4736", None]
    )
    status: Status


class JobList(Model):
    jobs: list[Job]
    next_cursor: str | None


class BatchItem(Model):
    id: str | None = None
    error: Problem | None = None


class BatchResult(Model):
    results: list[BatchItem]


class Event(Model):
    cursor: str = Field(examples=["812-4471"])
    at: datetime
    job_id: str
    type: str = Field(examples=["job.started"])
    data: dict[str, Any]


class EventList(Model):
    events: list[Event]


class RoomModel(Model):
    cpu: float = Field(examples=[2.0])
    memory: int = Field(examples=[8589934592])


class Node(Model):
    id: str
    name: str
    state: NodeState
    cordoned: bool = Field(description="Nothing more is placed there.")
    draining: bool = Field(description="It is to be cleared, or its worker is about to end.")
    drain_until: datetime | None = Field(description="From then on what still runs there is stopped.")
    drivers: list[str] = Field(examples=[["docker"]])
    capacity: RoomModel
    used: RoomModel
    free: RoomModel
    attempts: int
    version: str
    labels: dict[str, str]
    facts: dict[str, Any]
    registered_at: datetime
    heartbeat_at: datetime


class NodeList(Model):
    nodes: list[Node]


class Leader(Model):
    id: str = Field(examples=["sched_01m84h7zs6ehdr80hd3b355n33"])
    host: str
    pid: int
    version: str
    term: int = Field(description="The number of this leadership; grows by one with each takeover.")
    since: datetime


class Standby(Model):
    id: str
    host: str
    pid: int
    version: str
    since: datetime
    seen_at: datetime


class JobCounts(Model):
    queued: int = Field(description="Waiting, in backoff too; counted up to 10000.")
    running: int = Field(description="On a node, from their placement on; counted up to 10000.")


class Cluster(Model):
    leader: Leader | None = Field(description="The scheduler that leads; null while none does.")
    standbys: list[Standby] = Field(description="The other schedulers heard within the last five seconds.")
    nodes: dict[NodeState, int] = Field(examples=[{"ready": 3, "suspect": 0, "lost": 0}])
    jobs: JobCounts
    redis_degraded: bool = Field(description="Redis does not serve the leader: work goes on, by polls.")
    redis_degraded_since: datetime | None
    version: str = Field(description="Of the API that answers.")


class Version(Model):
    version: str
    api: str = Field(examples=["v1"])


class Health(Model):
    status: str = Field(examples=["ok"])
    checks: dict[str, str] = Field(examples=[{"ledger": "ok", "stream": "ok"}])


def moment(value: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def job(
    view: JobView,
    attempts: Sequence[AttemptView],
    explanation: Explanation | None = None,
    ahead: int | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """A job's document. A `reason` that was found by looking goes before the one on record."""
    nodes = explanation.nodes if explanation else ()
    return {
        "id": view.id,
        "name": view.name,
        "state": job_state(view.state),
        "queue": view.queue,
        "labels": view.labels,
        "spec": msgspec.Raw(view.spec_text.encode()),
        "created_at": moment(view.created_at),
        "finished_at": moment(view.finished_at),
        "retry_of": view.retry_of,
        "trace_id": view.trace and view.trace.trace_id,
        "status": {
            "reason": explanation.summary if explanation else reason or view.reason,
            "explanation": [{"node": n.node, "fits": n.fits, "reasons": n.reasons} for n in nodes],
            "ahead": ahead,
            "retries": view.retries,
            "infra_losses": view.infra_losses,
            "cancel_requested": view.cancel_requested,
            "attempts": [attempt(a) for a in attempts],
        },
    }


def attempt(view: AttemptView) -> dict[str, Any]:
    """An attempt's document."""
    return {
        "id": view.id,
        "number": view.number,
        "node": view.node,
        "state": view.state,
        "exit_code": view.exit_code,
        "cause": view.cause,
        "message": view.message,
        "late": view.late,
        "placed_at": moment(view.placed_at),
        "started_at": moment(view.started_at),
        "finished_at": moment(view.finished_at),
    }


def event(row: EventRow) -> dict[str, Any]:
    """An event's document."""
    return {
        "cursor": str(row.cursor),
        "at": moment(row.at),
        "job_id": row.job_id,
        "type": row.type,
        "data": row.data or {},
    }


def node(row: NodeRow) -> dict[str, Any]:
    """A node's document."""
    n = row.node
    rooms = {"capacity": n.capacity, "used": n.used, "free": n.free}
    return {
        "id": n.id,
        "name": n.name,
        "state": n.state,
        "cordoned": n.cordoned,
        "draining": n.draining or n.leaving,
        "drain_until": moment(row.drain_until),
        "drivers": sorted(n.drivers),
        **{name: {"cpu": room.millis / 1000, "memory": room.memory} for name, room in rooms.items()},
        "attempts": row.attempts,
        "version": row.version,
        "labels": row.labels,
        "facts": row.facts,
        "registered_at": moment(row.registered_at),
        "heartbeat_at": moment(row.heartbeat_at),
    }


def cluster(found: Overview) -> dict[str, Any]:
    """The cluster's document."""
    leader = found.leader
    degraded = leader.redis_degraded_since if leader else None
    return {
        "leader": leader
        and {
            "id": leader.id,
            "host": leader.host,
            "pid": leader.pid,
            "version": leader.version,
            "term": leader.term,
            "since": moment(leader.since),
        },
        "standbys": [
            {
                "id": one.id,
                "host": one.host,
                "pid": one.pid,
                "version": one.version,
                "since": moment(one.started_at),
                "seen_at": moment(one.seen_at),
            }
            for one in found.standbys
        ],
        "nodes": found.nodes,
        "jobs": {"queued": found.queued, "running": found.running},
        "redis_degraded": degraded is not None,
        "redis_degraded_since": moment(degraded),
        "version": __version__,
    }
