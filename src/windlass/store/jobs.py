"""Jobs: submit, read, list, delete."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, LiteralString

import msgspec

from windlass.core.ids import AttemptId, JobId, TaskId, task_of
from windlass.core.placement.snapshot import shape_of
from windlass.core.quantity import moment_seconds
from windlass.core.spec import JobSpec
from windlass.core.states import JobState, TaskState
from windlass.core.trace import TraceContext, parse
from windlass.store import fence
from windlass.store.audit import By
from windlass.store.db import Conn
from windlass.store.shapes import Shapes

#: Accepts jobs, each with its task and first event, in order of `ord`. A job whose key is taken is left out. Of each
#: request that any came with there is one record.
SUBMIT = """
WITH j AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(jobs)s::json) AS x (ord integer, id text, task text, name text, queue text,
        labels jsonb, spec json, priority integer, shape integer, key text, fingerprint text, retry_of text,
        traceparent text, tracestate text, queue_in float8, deadline_in float8, start_at float8, start_in float8,
        request integer)
), accepted AS (
    INSERT INTO jobs (id, name, queue, labels, spec, idempotency_key, fingerprint, retry_of, traceparent, tracestate)
    SELECT id, name, queue, labels, spec, key, fingerprint, retry_of, traceparent, tracestate FROM j
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
), lined AS (
    INSERT INTO tasks (id, job_id, shape, priority, state, not_before, reason, wake_at)
    SELECT task, id, shape, priority, CASE WHEN start > now() THEN 'backoff' ELSE 'queued' END,
        CASE WHEN start > now() THEN start END,
        CASE WHEN start > now() THEN to_char(start AT TIME ZONE 'UTC', '"starts at "YYYY-MM-DD"T"HH24:MI:SS"Z"') END,
        CASE WHEN start > now() THEN least(start, now() + deadline_in * interval '1 second')
            ELSE now() + least(queue_in, deadline_in) * interval '1 second' END
    FROM (SELECT *, coalesce(to_timestamp(start_at), now() + start_in * interval '1 second') AS start FROM j) j
    JOIN accepted USING (id) ORDER BY ord
), told AS (
    INSERT INTO events (job_id, type) SELECT id, 'job.submitted' FROM j JOIN accepted USING (id) ORDER BY ord
), noted AS (
    INSERT INTO audit (token_id, who, role, request_id, action, target, detail)
    SELECT b.token_id, b.who, b.role, b.request_id, b.action, a.ids[1],
        CASE WHEN cardinality(a.ids) > 1 THEN json_build_object('jobs', a.ids) END
    FROM (SELECT request, array_agg(id ORDER BY ord) AS ids FROM j JOIN accepted USING (id)
        WHERE request IS NOT NULL GROUP BY request) a
    JOIN json_to_recordset(%(by)s::json) AS b (request integer, token_id text, who text, role text, request_id text,
        action text) USING (request)
)
SELECT now(), array_agg(id) FROM accepted
"""
#: Which of these ids are there; those of one submit are of one moment.
FOUND = "SELECT array_agg(id), max(created_at) FROM jobs WHERE id = ANY(%(ids)s)"
BY_KEY = "SELECT idempotency_key, id, fingerprint FROM jobs WHERE idempotency_key = ANY(%(keys)s)"

_VIEW = """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version,
    j.traceparent
FROM jobs j JOIN tasks t ON t.job_id = j.id
"""
GET = _VIEW + "WHERE j.id = %(id)s"
OVER = "SELECT state IN ('succeeded', 'failed', 'cancelled') FROM tasks WHERE id = %(id)s"
ATTEMPTS = """
SELECT task_id, id, number, node_name, state, exit_code, cause, message, late, placed_at, started_at, finished_at
FROM attempts WHERE task_id = ANY(%(tasks)s) ORDER BY task_id, number
"""
ATTEMPT_OVER = """
SELECT state IN ('succeeded', 'failed', 'cancelled', 'lost', 'rejected') FROM attempts WHERE id = %(id)s
"""
#: How many of the same or higher rank wait before this one; counts no further than 1000 per shape.
AHEAD = """
SELECT coalesce(sum(n), 0)::integer FROM shapes s CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM tasks t WHERE t.shape = s.id AND t.state = 'queued' AND (t.priority > %(priority)s
            OR t.priority = %(priority)s AND t.seq < %(seq)s) ORDER BY t.priority DESC, t.seq LIMIT 1000) h) c
"""
#: Deletes jobs that are over, with all that hangs on them; an open one is left. A user's wish needs no term.
DELETE = f"""
WITH {fence.FENCE}, gone AS (
    DELETE FROM tasks WHERE job_id = ANY(%(ids)s) AND state IN ('succeeded', 'failed', 'cancelled')
        AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
    RETURNING id, job_id
), tries AS (
    DELETE FROM attempts WHERE task_id IN (SELECT id FROM gone) RETURNING id
), logs AS (
    DELETE FROM log_chunks WHERE attempt_id IN (SELECT id FROM tries)
), facts AS (
    DELETE FROM events WHERE job_id IN (SELECT job_id FROM gone)
), job AS (
    DELETE FROM jobs WHERE id IN (SELECT job_id FROM gone) RETURNING id
), told AS (
    INSERT INTO events (job_id, type) SELECT id, 'job.deleted' FROM job
)
SELECT (SELECT term FROM fence), (SELECT array_agg(id) FROM job)
"""
#: Jobs whose ttl_after_finished has passed, by tasks_expire.
EXPIRED = """
SELECT job_id FROM tasks WHERE expire_at <= coalesce(to_timestamp(%(now)s), now()) ORDER BY expire_at LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A valid job on its way in. `canonical` is its spec as stored."""

    id: JobId
    spec: JobSpec
    canonical: bytes
    key: str | None = None
    fingerprint: str | None = None
    retry_of: JobId | None = None
    #: the place in a trace it was submitted from
    trace: TraceContext | None = None


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The job that already has an Idempotency-Key."""

    id: JobId
    fingerprint: str


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt as users see it."""

    id: str
    number: int
    node: str
    state: str
    exit_code: int | None
    cause: str | None
    message: str
    late: str | None
    placed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its one task, as users see it. `spec_text` is JSON."""

    id: JobId
    name: str | None
    queue: str
    labels: Mapping[str, str]
    spec_text: str
    retry_of: JobId | None
    created_at: datetime
    task_id: TaskId
    #: as it is written, where this version does not know it
    state: TaskState | str
    priority: int
    seq: int
    shape: int
    retries: int
    infra_losses: int
    cancel_requested: bool
    reason: str | None
    not_before: datetime | None
    finished_at: datetime | None
    version: int
    traceparent: str | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.finished_at is not None

    @property
    def trace(self) -> TraceContext | None:
        """The place in a trace it was submitted from."""
        return None if self.traceparent is None else parse(self.traceparent)


async def submit(
    conn: Conn, jobs: Sequence[NewJob], shapes: Shapes, by: Sequence[By] = ()
) -> tuple[frozenset[JobId], datetime]:
    """Accept jobs in one transaction, with a record of who submitted them: `by` says it of each job; jobs of one
    request have the same. Returns those accepted, and when; the others' keys are taken."""
    asked = [shape_of(job.spec) for job in jobs]
    numbers = await shapes.intern(conn, set(asked))
    requests = {id(one): (n, one) for n, one in enumerate(by)}
    of = [requests[id(one)][0] for one in by] or [None] * len(jobs)
    rows = [_row(i, job, numbers[asked[i]]) | {"request": of[i]} for i, job in enumerate(jobs)]
    told = [{"request": n, **asdict(one)} for n, one in requests.values()]
    values = {"jobs": msgspec.json.encode(rows).decode(), "by": msgspec.json.encode(told).decode()}
    row = await (await conn.execute(SUBMIT, values)).fetchone()
    assert row is not None
    return frozenset(JobId(job_id) for job_id in row[1] or ()), row[0]


def _row(order: int, job: NewJob, shape: int) -> dict[str, Any]:
    spec = job.spec
    return {
        "ord": order,
        "id": job.id,
        "task": task_of(job.id),
        "name": spec.name,
        "queue": spec.queue,
        "labels": spec.labels,
        "spec": msgspec.Raw(job.canonical),
        "priority": spec.priority,
        "shape": shape,
        "key": job.key,
        "fingerprint": job.fingerprint,
        "retry_of": job.retry_of,
        "traceparent": job.trace and job.trace.traceparent,
        "tracestate": (job.trace and job.trace.state) or None,
        "queue_in": spec.queue_timeout,
        "deadline_in": spec.job_deadline,
        "start_at": None if spec.not_before is None else moment_seconds(spec.not_before),
        "start_in": spec.start_delay,
    }


async def found(conn: Conn, ids: Sequence[JobId]) -> tuple[frozenset[JobId], datetime | None]:
    """Which of these jobs are there, and when they were accepted (None: none is)."""
    row = await (await conn.execute(FOUND, {"ids": list(ids)})).fetchone()
    assert row is not None
    return frozenset(JobId(job_id) for job_id in row[0] or ()), row[1]


async def holders(conn: Conn, keys: Sequence[str]) -> dict[str, KeyHolder]:
    """Who has these Idempotency-Keys."""
    rows = await (await conn.execute(BY_KEY, {"keys": list(keys)})).fetchall()
    return {key: KeyHolder(JobId(job_id), mark) for key, job_id, mark in rows}


async def get(conn: Conn, job_id: JobId) -> JobView | None:
    """One job, if it is there."""
    row = await (await conn.execute(GET, {"id": job_id})).fetchone()
    return None if row is None else _view(row)


async def over(conn: Conn, job_id: JobId) -> bool:
    """Whether a job has ended, or is not there."""
    row = await (await conn.execute(OVER, {"id": task_of(job_id)})).fetchone()
    return row is None or row[0]


async def attempts(conn: Conn, tasks: Sequence[TaskId]) -> dict[TaskId, list[AttemptView]]:
    """The attempts of these tasks, in order."""
    found: dict[TaskId, list[AttemptView]] = {task: [] for task in tasks}
    for task_id, *rest in await (await conn.execute(ATTEMPTS, {"tasks": list(tasks)})).fetchall():
        found[task_id].append(AttemptView(*rest))
    return found


async def get_whole(conn: Conn, job_id: JobId) -> tuple[JobView, list[AttemptView]] | None:
    """One job with its attempts, in one round trip."""
    async with conn.pipeline():
        job = await conn.execute(GET, {"id": job_id})
        tried = await conn.execute(ATTEMPTS, {"tasks": [task_of(job_id)]})
    row = await job.fetchone()
    return None if row is None else (_view(row), [AttemptView(*rest) for _, *rest in await tried.fetchall()])


async def attempt_over(conn: Conn, attempt_id: AttemptId) -> bool:
    """Whether an attempt has ended, or is not there any more."""
    row = await (await conn.execute(ATTEMPT_OVER, {"id": attempt_id})).fetchone()
    return row is None or row[0]


async def ahead(conn: Conn, job: JobView) -> int:
    """How many tasks rank before this queued one."""
    row = await (await conn.execute(AHEAD, {"priority": job.priority, "seq": job.seq})).fetchone()
    return row[0] if row else 0


def _view(row: Sequence[Any]) -> JobView:
    fields = list(row)
    fields[3], state = msgspec.json.decode(fields[3]), fields[8]
    fields[8] = TaskState(state) if state in set(TaskState) else state
    return JobView(*fields)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to."""

    state: JobState | None = None
    labels: Mapping[str, str] | None = None
    queue: str | None = None
    name: str | None = None


#: States as literals, with the condition of the partial index that serves them.
_STATE_CLAUSES: Mapping[JobState, LiteralString] = {
    JobState.HELD: "t.state = 'held' AND t.finished_at IS NULL",
    JobState.BLOCKED: "t.state = 'blocked' AND t.finished_at IS NULL",
    JobState.QUEUED: "t.state IN ('queued', 'backoff') AND t.finished_at IS NULL",
    JobState.RUNNING: "t.state = 'active' AND t.finished_at IS NULL",
    JobState.SUCCEEDED: "t.state = 'succeeded'",
    JobState.FAILED: "t.state = 'failed' AND t.state IN ('failed', 'cancelled')",
    JobState.CANCELLED: "t.state = 'cancelled' AND t.state IN ('failed', 'cancelled')",
}


def list_statement(wanted: Filter, *, paged: bool) -> LiteralString:
    """The statement for this filter: newest first, after the cursor."""
    clauses: list[LiteralString] = []
    if wanted.state is not None:
        clauses.append(_STATE_CLAUSES[wanted.state])
    if wanted.labels:
        clauses.append("j.labels @> %(labels)s::jsonb AND j.labels <> '{}'::jsonb")
    if wanted.queue is not None:
        clauses.append(
            "j.queue = %(queue)s" if wanted.queue == "default" else "j.queue = %(queue)s AND j.queue <> 'default'"
        )
    if wanted.name is not None:
        clauses.append("j.name = %(name)s")
    if paged:
        clauses.append("j.id < %(cursor)s AND t.job_id < %(cursor)s")
    where: LiteralString = "WHERE " + " AND ".join(clauses) if clauses else ""
    return _VIEW + where + " ORDER BY t.job_id DESC LIMIT %(limit)s"


async def page(conn: Conn, wanted: Filter, limit: int, cursor: str | None) -> list[JobView]:
    """Up to `limit` jobs, newest first, older than the job the cursor names."""
    values = {
        "labels": msgspec.json.encode(wanted.labels or {}).decode(),
        "queue": wanted.queue,
        "name": wanted.name,
        "cursor": cursor,
        "limit": limit,
    }
    result = await conn.execute(list_statement(wanted, paged=cursor is not None), values)
    return [_view(row) for row in await result.fetchall()]


async def delete(conn: Conn, ids: Sequence[JobId], *, term: int | None = None) -> frozenset[JobId]:
    """Delete those that are over, by a user's wish or under the leader's term; returns them. Raises Fenced."""
    _, gone = await fence.write(conn, DELETE, {"ids": list(ids)}, term)
    return frozenset(gone or ())


async def expired(conn: Conn, limit: int = 200, now: float | None = None) -> list[JobId]:
    """Jobs to be deleted by their own wish, by `now` or else the database's clock."""
    rows = await (await conn.execute(EXPIRED, {"limit": limit, "now": now})).fetchall()
    return [JobId(row[0]) for row in rows]
