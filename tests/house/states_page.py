"""docs/reference/states.md. The diagrams are not drawn from a table: they show what `step` does when every state is
given every event.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.builders import T0, a_spec, a_task, an_attempt
from windlass.core.attempt import step
from windlass.core.events import (
    CancelRequested,
    DrainDue,
    Due,
    Event,
    Exited,
    NodeLost,
    Placed,
    Prepared,
    Refused,
    RetryRequested,
    Started,
)
from windlass.core.ids import AttemptId, NodeId
from windlass.core.retry import MAX_NODE_LOSSES, MAX_REFUSALS
from windlass.core.states import AttemptState, Cause, JobState, NodeState, TaskState, task_states
from windlass.core.task import Attempt, Step, Task

LATER = T0 + 1000

TASK_WORDS = {
    TaskState.HELD: "kept out of placement until it is released",
    TaskState.BLOCKED: "waits for other jobs",
    TaskState.QUEUED: "waits for a node with room",
    TaskState.ACTIVE: "one attempt is live",
    TaskState.BACKOFF: "waits out the delay before its next attempt",
    TaskState.SUCCEEDED: "an attempt ended well",
    TaskState.FAILED: "its budget or a time limit is spent",
    TaskState.CANCELLED: "ended by a user's wish, and proven gone",
}
ATTEMPT_WORDS = {
    AttemptState.PLACED: "given to a node, launched towards it",
    AttemptState.PREPARING: "the node has it: pulls, creates",
    AttemptState.RUNNING: "the container or process runs",
    AttemptState.STOPPING: "told to stop, not yet proven gone",
    AttemptState.SUCCEEDED: "exit code 0",
    AttemptState.FAILED: "ended for a cause of its own, see below",
    AttemptState.CANCELLED: "ended because it was told to",
    AttemptState.LOST: "its node's lease lapsed, the node no longer knows it, or its engine or machine took it down",
    AttemptState.REJECTED: "the node refused it; nothing ran",
}
CAUSE_WORDS = {
    Cause.EXIT_CODE: "it ended with a code other than 0",
    Cause.SIGNAL: "a signal ended it that nobody here sent",
    Cause.OOM: "it needed more memory than its limit",
    Cause.TIMEOUT: "`attempt_timeout`, `start_timeout` or `job_deadline` passed",
    Cause.IMAGE_PULL: "the image could not be had",
    Cause.START_FAILED: "it could not be started: no such command, user or folder",
    Cause.NODE_LOST: "the node, its engine, or its memory of the attempt was gone",
    Cause.CANCELLED: "a user asked for it",
    Cause.REJECTED: "the node would not take it",
    Cause.DRAINED: "its node was drained; it costs the task nothing",
}
NODE_WORDS = {
    NodeState.READY: "heard within the last seconds: takes work, unless it is cordoned or drained",
    NodeState.SUSPECT: "heartbeats are late: keeps its work, gets no more",
    NodeState.LOST: "its lease lapsed: its attempts are replaced, save exclusive ones",
}
EVENTS: list[tuple[str, Event]] = [
    ("placed", Placed(AttemptId("att"), NodeId("node"), "n", 1)),
    ("prepared", Prepared()),
    ("started", Started(LATER)),
    ("exited", Exited(LATER)),
    *(("exited", Exited(LATER, cause)) for cause in Cause),
    ("refused", Refused("")),
    ("node lost", NodeLost()),
    ("due", Due()),
    ("drain due", DrainDue()),
    ("cancel", CancelRequested()),
    ("retry", RetryRequested()),
]


def situations() -> Iterator[tuple[Task, Attempt | None]]:
    """Every state of a task with its attempt: budgets spent or not, limits passed or not, cancel asked or not."""
    limits = {"attempt_timeout": 1.0, "start_timeout": 1.0}
    specs = [a_spec(**limits), a_spec(max_retries=0, **limits), a_spec(job_deadline=1.0), a_spec(queue_timeout=1.0)]
    for spec, state, spent in itertools.product(specs, TaskState, (False, True)):
        task = a_task(state, spec, infra_losses=spec.max_infra_losses if spent else 0)
        if state is not TaskState.ACTIVE:
            yield task, None
            continue
        for live in (a for a in AttemptState if not a.terminal):
            yield task, an_attempt(live)
            yield replace(task, cancel_requested=True), an_attempt(live)


Edges = dict[tuple[str, str], list[str]]


def _explored() -> tuple[Edges, Edges]:
    """The moves of tasks and of attempts, each with the events that make it."""
    tasks: Edges = {}
    attempts: Edges = {}
    for (task, attempt), (name, event) in itertools.product(situations(), EVENTS):
        result = step(task, attempt, event, LATER)
        if not isinstance(result, Step):
            continue
        _note(tasks, task.state, result.task.state, name)
        if result.attempt is not None:
            _note(attempts, attempt.state if attempt else "[*]", result.attempt.state, name)
    return tasks, attempts


def _note(edges: Edges, source: str, target: str, event: str) -> None:
    events = edges.setdefault((source, target), [])
    if source != target and event not in events:
        events.append(event)


def _diagram(edges: Edges, first: list[str], ends: list[str], words: list[str]) -> str:
    order = ["[*]", *words]
    moves = sorted((e for e in edges if edges[e]), key=lambda e: (order.index(e[0]), order.index(e[1])))
    lines = [f"    [*] --> {state}" for state in first]
    lines += [f"    {source} --> {target}: {', '.join(edges[source, target])}" for source, target in moves]
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _table(head: str, words: Mapping[Any, str]) -> str:
    return "\n".join([f"| {head} | meaning |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in words.items())])


def states() -> str:
    """docs/reference/states.md."""
    tasks, attempts = _explored()
    jobs = "\n".join(f"| `{job}` | {', '.join(f'`{s}`' for s in task_states(job))} |" for job in JobState)
    return f"""# States

Made from the code by `make docs`; a test keeps it current. The diagrams show what `core/attempt.py` does when every
state is given every event. A pair that is not drawn changes nothing: late, doubled and reordered events are ignored.

## Task

One unit of a job's work. `succeeded`, `failed` and `cancelled` are never left.

{_diagram(tasks, ["queued"], ["succeeded", "failed", "cancelled"], list(TaskState))}

{_table("task", TASK_WORDS)}

## Attempt

One try on one node. It never moves backward, and exactly one outcome is recorded for it.

{_diagram(attempts, [], [a for a in AttemptState if a.terminal], list(AttemptState))}

{_table("attempt", ATTEMPT_WORDS)}

What follows for the task: a failure takes one of `max_retries` and waits in `backoff`; a loss takes one of
`max_infra_losses` and is queued again at once; a refusal takes neither, waits a little, and may happen {MAX_REFUSALS}
times; a drain takes nothing and is queued again at once. A task that was running on {MAX_NODE_LOSSES} nodes when they
were lost is taken for the cause and fails. Once a cancel was asked for, every end but success is `cancelled`. An
`exclusive` task is not given up with its node: it waits until the old copy is proven gone, by its node's own word or
by an operator's (`windlass forget`). What a node says of an attempt that was lost meanwhile is kept as its `late`
report and changes nothing.

| event | who says so |
|---|---|
| placed | the scheduler's plan, under its term |
| prepared, started, exited, refused | the node |
| node lost | the scheduler: the node's lease lapsed |
| due | the database's clock: a time limit or the end of a backoff |
| drain due | the database's clock: the deadline of a node's drain |
| cancel, retry | a user |

## Cause

Why an attempt did not succeed.

{_table("cause", CAUSE_WORDS)}

## Job

What users see.

| job | its task is |
|---|---|
{jobs}

## Node

{_table("node", NODE_WORDS)}
"""
