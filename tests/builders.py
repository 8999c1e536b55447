"""Values for tests: each builder makes a valid one, and takes what the test is about as keywords."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import msgspec

from windlass.core.attempt import step
from windlass.core.events import Event, Placed
from windlass.core.ids import ATTEMPT, JOB, NODE, AttemptId, JobId, NodeId, TaskId, task_of
from windlass.core.placement.snapshot import NOTHING, Node, Pending, Room, Shape
from windlass.core.spec import JobSpec, Resources
from windlass.core.states import AttemptState, Driver, NodeState, TaskState
from windlass.core.task import Attempt, Step, Task
from windlass.mint import new_id
from windlass.store import jobs, leases, tasks
from windlass.store.apply import Applied, apply
from windlass.store.db import Conn
from windlass.store.shapes import Shapes

GIB = 2**30
T0 = 1_000_000.0
"""The moment the core's tests begin at, in database seconds."""

_numbers = count(1)


def a_spec(cpu: float = 1.0, memory: int = 2**20, **fields: Any) -> JobSpec:
    """A job as a process, of one core and little memory."""
    plain: dict[str, Any] = {"command": ("true",), "driver": Driver.PROCESS}
    return JobSpec(**plain | {"resources": Resources(cpu=cpu, memory=memory)} | fields)


def a_task(state: TaskState = TaskState.QUEUED, spec: JobSpec | None = None, **fields: Any) -> Task:
    """A task in this state, consistent in itself; `**fields` are the Task's own."""
    job_id = JobId(new_id(JOB))
    given: dict[str, Any] = {"version": 7, "created_at": T0, "queued_at": T0, "shape": 1}
    if state.terminal:
        given["finished_at"] = T0
    if state is TaskState.BACKOFF:
        given |= {"attempts": 1, "not_before": T0 + 5}
    if state is TaskState.ACTIVE:
        given["attempts"] = 1
    return Task(**{"id": task_of(job_id), "job_id": job_id, "spec": spec or a_spec(), "state": state} | given | fields)


def an_attempt(state: AttemptState = AttemptState.RUNNING, **fields: Any) -> Attempt:
    """The first attempt of a task, in this state."""
    given: dict[str, Any] = {}
    if state in (AttemptState.RUNNING, AttemptState.STOPPING, AttemptState.SUCCEEDED, AttemptState.FAILED):
        given["started_at"] = T0 + 1
    if state is AttemptState.STOPPING:
        given["stop_sent_at"] = T0 + 2
    if state.terminal:
        given["finished_at"] = T0 + 3
    base: dict[str, Any] = {
        "id": AttemptId(new_id(ATTEMPT)),
        "number": 1,
        "node_id": NodeId("node_1"),
        "node_name": "n1",
        "fence": 1,
        "state": state,
        "placed_at": T0,
    }
    return Attempt(**base | given | fields)


def a_node(name: str = "n1", cpu: float = 4.0, memory: int = 8 * GIB, **fields: Any) -> Node:
    """A ready node that offers processes and containers."""
    given: dict[str, Any] = {
        "state": NodeState.READY,
        "cordoned": False,
        "drivers": frozenset({Driver.PROCESS, Driver.DOCKER}),
        "used": NOTHING,
    }
    return Node(id=NodeId(f"node_{name}"), name=name, capacity=Room(round(cpu * 1000), memory), **given | fields)


def a_shape(cpu: float = 1.0, memory: int = GIB, driver: Driver = Driver.PROCESS) -> Shape:
    """What placement sees of a job."""
    return Shape(driver, Room(round(cpu * 1000), memory))


def a_pending(shape: int = 1, *, priority: int = 0, seq: int | None = None, queued_at: float = T0) -> Pending:
    """A queued task; later ones have higher `seq`."""
    number = next(_numbers) if seq is None else seq
    return Pending(TaskId(f"tsk_{number}"), shape, priority, number, queued_at)


def placed(task: Task, node: Node | None = None, *, fence: int = 1, now: float = T0) -> Step:
    """The step that places a queued task."""
    node = node or a_node()
    result = step(task, None, Placed(AttemptId(new_id(ATTEMPT)), node.id, node.name, fence), now)
    assert isinstance(result, Step)
    return result


def moved(before: Step | Task, event: Event, now: float = T0, attempt: Attempt | None = None) -> Step:
    """The step after an event that must move; the version counted as the store counts it."""
    if isinstance(before, Step):
        task, attempt = replace(before.task, version=before.base + 1), before.attempt
    else:
        task = before
    result = step(task, attempt, event, now)
    assert isinstance(result, Step), result
    return result


def a_job(spec: JobSpec | None = None, **fields: Any) -> jobs.NewJob:
    """A job on its way into the ledger."""
    spec = spec or a_spec()
    return jobs.NewJob(JobId(new_id(JOB)), spec, msgspec.json.encode(spec), **fields)


@dataclass(frozen=True)
class Ledger:
    """A real ledger with what tests do to it: submit, lead, write steps, read back."""

    conn: Conn

    async def submit(self, *specs: JobSpec) -> list[JobId]:
        """Accept one job per spec (one plain job without any)."""
        new = [a_job(spec) for spec in specs or (a_spec(),)]
        await jobs.submit(self.conn, new, Shapes())
        return [job.id for job in new]

    async def lead(self, holder: str = "leader", ttl_s: float = 60.0) -> int:
        """Take the lease; the term."""
        term = await leases.take(self.conn, holder, ttl_s)
        assert term is not None
        return term

    async def task(self, job_id: JobId) -> tasks.Live:
        """A job's task with its latest attempt."""
        return (await tasks.by_id(self.conn, [task_of(job_id)]))[0][task_of(job_id)]

    async def write(self, *steps: Step, term: int | None = None, sent: Sequence[int] = ()) -> Applied:
        """Through the one door."""
        return await apply(self.conn, steps, term=term, sent=sent)

    async def place(self, job_id: JobId, node: Node | None = None, *, term: int | None = None) -> Step:
        """Place a queued job's task; the step, as written."""
        live = await self.task(job_id)
        now = await tasks.clock(self.conn)
        made = placed(live.task, node, fence=term or 1, now=now)
        applied = await self.write(made, term=term)
        assert applied.moved == {made.task.id}
        return made

    async def move(self, job_id: JobId, event: Event, *, term: int | None = None) -> Step:
        """Let an event happen to a job's task, and write what follows."""
        live = await self.task(job_id)
        result = moved(live.task, event, await tasks.clock(self.conn), live.attempt)
        applied = await self.write(result, term=term)
        assert applied.moved == {result.task.id}
        return result

    async def one(self, statement: str, *values: Any) -> Any:
        """The first column of the first row."""
        row = await (await self.conn.execute(statement, values or None)).fetchone()  # pyright: ignore
        return None if row is None else row[0]


def a_node_id() -> NodeId:
    """A fresh node's id."""
    return NodeId(new_id(NODE))
