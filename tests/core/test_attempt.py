"""The state machine: every state against every event, and long random histories."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import T0, a_spec, a_task, an_attempt, moved, placed
from windlass.core.attempt import TRANSITIONS, fold, late, step
from windlass.core.events import (
    CancelRequested,
    DrainDue,
    Due,
    Event,
    Exited,
    Ignored,
    LaunchCommand,
    NodeLost,
    Placed,
    Prepared,
    Refused,
    RetryRequested,
    Started,
    StopCommand,
)
from windlass.core.ids import AttemptId, NodeId
from windlass.core.retry import MAX_NODE_LOSSES, MAX_REFUSALS
from windlass.core.spec import Backoff, JobSpec
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.core.task import ENFORCE_MARGIN_S, Attempt, Step, Task, wake_at

A = AttemptState
LIVE = [A.PLACED, A.PREPARING, A.RUNNING, A.STOPPING]
LATER = T0 + 100

EVENTS: list[Event] = [
    Placed(AttemptId("att_new"), NodeId("node_2"), "n2", 3),
    Prepared(),
    Started(LATER - 1),
    *(Exited(LATER - 1, cause, 1, "as reported", LATER - 2) for cause in (None, *Cause)),
    Refused("full"),
    NodeLost(),
    NodeLost(gone=True),
    Due(),
    DrainDue(),
    CancelRequested(),
    RetryRequested(),
]
SPECS = {
    "plain": a_spec(),
    "limited": a_spec(attempt_timeout=10.0, job_deadline=20.0, queue_timeout=10.0, start_timeout=10.0),
    "exclusive": a_spec(exclusive=True),
    "no retries": a_spec(max_retries=0),
}
ATTEMPTS = [None, *A]


def invariants(task: Task, attempt: Attempt | None, event: Event, result: Step | Ignored) -> None:
    if isinstance(result, Ignored):
        assert result.reason
        return
    after, tried = result.task, result.attempt
    assert not task.state.terminal, "a terminal task is never left"
    assert result.base == task.version
    assert after.version == task.version, "the store counts versions, not the step"
    assert (after.finished_at is not None) == after.state.terminal
    assert (after.not_before is not None) == (after.state is TaskState.BACKOFF)
    assert after.state is not TaskState.ACTIVE or (tried is not None and not tried.state.terminal)
    assert not after.state.terminal or tried is None or tried.state.terminal, "no live attempt outlives its task"
    assert after.retries <= after.spec.max_retries
    if tried is not None and attempt is not None and tried.id == attempt.id:
        assert not attempt.state.terminal, "a terminal attempt never moves"
        assert (tried.finished_at is not None) == tried.state.terminal
        if attempt.state is not tried.state and not isinstance(event, CancelRequested | Due | DrainDue):
            assert tried.state in TRANSITIONS[attempt.state, type(event)]  # pyright: ignore[reportArgumentType]
    elif tried is not None:
        assert isinstance(event, Placed)
    for command in result.commands:
        assert tried is not None
        assert (command.attempt_id, command.node_id) == (tried.id, tried.node_id)
    ended = [r for r in result.records if r.type in ("job.succeeded", "job.failed", "job.cancelled")]
    assert len(ended) == after.state.terminal, "one record tells a task's end"


def test_every_state_takes_every_event() -> None:
    """Thousands of small cases as one test: a case that fails names itself."""
    for task_state, attempt_state, event, spec in itertools.product(TaskState, ATTEMPTS, EVENTS, SPECS.values()):
        task = a_task(task_state, spec)
        attempt = None if attempt_state is None else an_attempt(attempt_state)
        case = f"{task_state} with {attempt_state} attempt, {event}"
        try:
            result = step(task, attempt, event, LATER)
            invariants(task, attempt, event, result)
        except Exception as error:
            raise AssertionError(case) from error
        if isinstance(result, Ignored):
            continue
        again = step(replace(result.task, version=result.base + 1), result.attempt or attempt, event, LATER)
        assert isinstance(again, Ignored), f"{case}: doubled, it moved again"


@pytest.mark.parametrize("state", TaskState)
def test_an_attempt_that_was_superseded_moves_nothing(state: TaskState) -> None:
    task = a_task(state, attempts=2)
    for attempt_state, event in itertools.product(LIVE, EVENTS):
        if isinstance(event, Prepared | Started | Exited | Refused | NodeLost):
            assert isinstance(step(task, an_attempt(attempt_state, number=1), event, LATER), Ignored)


def test_live_attempts_can_end_and_ended_ones_cannot_move() -> None:
    assert {state for state, _ in TRANSITIONS} == set(LIVE)
    reach = {state: {t for (s, _), ts in TRANSITIONS.items() if s is state for t in ts} for state in A}
    for state in LIVE:
        assert {A.SUCCEEDED, A.FAILED, A.CANCELLED, A.LOST} <= reach[state]
    order = [A.PLACED, A.PREPARING, A.RUNNING, A.STOPPING]
    for (state, _), targets in TRANSITIONS.items():
        for target in targets:
            assert target.terminal or order.index(target) >= order.index(state), "never backward"


@pytest.mark.parametrize("state", [s for s in TaskState if not s.terminal])
def test_every_task_can_be_brought_to_an_end(state: TaskState) -> None:
    """A cancel ends what is not active at once; what is active ends once its exit is reported, or its node is lost."""
    task = a_task(state)
    first = moved(task, CancelRequested(), LATER, an_attempt() if state is TaskState.ACTIVE else None)
    if state is not TaskState.ACTIVE:
        assert first.task.state is TaskState.CANCELLED
        return
    for end in (Exited(LATER), Exited(LATER, Cause.CANCELLED, 143), Exited(LATER, Cause.EXIT_CODE, 1), NodeLost()):
        over = moved(first, end, LATER).task
        assert over.state is (TaskState.SUCCEEDED if end == Exited(LATER) else TaskState.CANCELLED)


def test_a_whole_life() -> None:
    start = placed(a_task())
    assert start.commands == (LaunchCommand(start.attempt.id, start.attempt.node_id),)  # pyright: ignore
    prepared = moved(start, Prepared())
    running = moved(prepared, Started(T0 + 1))
    done = moved(running, Exited(T0 + 2, None, 0), T0 + 2)
    assert [r.type for s in (start, prepared, running, done) for r in s.records] == [
        "job.placed",
        "job.started",
        "job.succeeded",
    ]
    assert done.attempt is not None
    assert (done.attempt.started_at, done.attempt.finished_at, done.attempt.exit_code) == (T0 + 1, T0 + 2, 0)


def test_an_exit_that_overtook_its_start_tells_both() -> None:
    done = moved(placed(a_task()), Exited(T0 + 2, None, 0, "", T0 + 1), T0 + 2)
    assert [r.type for r in done.records] == ["job.started", "job.succeeded"]
    assert done.attempt is not None
    assert done.attempt.started_at == T0 + 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_max_retries_bounds_the_attempts(retries: int) -> None:
    task, count, now = a_task(spec=a_spec(max_retries=retries)), 0, T0
    while not task.state.terminal:
        start = placed(task, now=now)
        count += 1
        failed = moved(moved(start, Started(now)), Exited(now, Cause.EXIT_CODE, 1), now)
        task = replace(failed.task, version=failed.base + 1)
        if task.state is TaskState.BACKOFF:
            now = task.not_before or now
            task = moved(task, Due(), now).task
    assert count == retries + 1
    assert (task.state, task.attempts, task.retries) == (TaskState.FAILED, retries + 1, retries)
    assert f"attempt {count} failed on n1: exit_code 1" in (task.reason or "")


@pytest.mark.parametrize("allowed", [0, 5])
def test_losses_have_a_bounded_budget_of_their_own(allowed: int) -> None:
    task, losses = a_task(spec=a_spec(max_retries=0, max_infra_losses=allowed)), 0
    while not task.state.terminal:
        lost = moved(placed(task), NodeLost(), T0)
        losses += 1
        task = replace(lost.task, version=lost.base + 1)
    assert (task.state, losses, task.retries) == (TaskState.FAILED, allowed + 1, 0)
    assert (task.node_losses, f"max_infra_losses {allowed}" in (task.reason or "")) == (0, True)


def test_a_task_that_takes_its_nodes_down_stops_being_tried() -> None:
    task, losses = a_task(spec=a_spec(max_infra_losses=100)), 0
    while not task.state.terminal:
        start = moved(placed(task), Started(T0))
        if losses == 1:  # told by a node that came back: the node was not lost with it
            start = placed(moved(start, Exited(T0, Cause.NODE_LOST, None, "not found")).task)
            start = moved(start, Started(T0))
        lost = moved(start, NodeLost(), T0)
        losses += 1
        task = replace(lost.task, version=lost.base + 1)
    assert (losses, task.node_losses, task.infra_losses) == (MAX_NODE_LOSSES, MAX_NODE_LOSSES, MAX_NODE_LOSSES + 1)
    assert task.reason == "stopped being tried: 3 nodes were lost while it ran there (last: n1)"


def test_a_drain_costs_nothing_however_often() -> None:
    """Also when the node itself says so, and when the node ends before it has."""
    task = a_task(spec=a_spec(max_retries=0, max_infra_losses=0))
    ends = [Exited(T0, Cause.CANCELLED, 143), Exited(T0, Cause.DRAINED, 143), NodeLost(), Refused("it is full")]
    for end in ends * (MAX_REFUSALS + 1):
        running = moved(placed(task), Started(T0))
        stopping = moved(running, DrainDue())
        assert stopping.attempt is not None
        assert (stopping.attempt.state, stopping.attempt.stop_cause) == (A.STOPPING, Cause.DRAINED)
        assert [type(c) for c in stopping.commands] == [StopCommand]
        assert isinstance(step(stopping.task, stopping.attempt, DrainDue(), T0), Ignored)
        if isinstance(end, Refused):
            continue
        over = moved(stopping, end)
        task = replace(over.task, version=over.base + 1)
        assert (task.state, task.queued_at) == (TaskState.QUEUED, T0)
    assert (task.retries, task.infra_losses, task.node_losses, task.refusals) == (0, 0, 0, 0)
    unasked = moved(moved(placed(task), Started(T0)), Exited(T0, Cause.DRAINED, 143, "the worker ends"))
    assert (unasked.task.state, unasked.attempt and unasked.attempt.state) == (TaskState.QUEUED, A.CANCELLED)


def test_a_failure_during_a_drain_is_the_jobs_own() -> None:
    stopping = moved(moved(placed(a_task()), Started(T0)), DrainDue())
    assert moved(stopping, Exited(T0, Cause.OOM, 137)).task.retries == 1
    assert moved(stopping, Exited(T0, None, 0)).task.state is TaskState.SUCCEEDED
    asked = moved(stopping, CancelRequested())
    assert moved(asked, Exited(T0, Cause.CANCELLED, 143)).task.state is TaskState.CANCELLED


@pytest.mark.parametrize("end", [Refused("no room"), Exited(T0, Cause.CANCELLED, 143, "the worker was stopped")])
def test_what_nodes_send_back_is_bounded(end: Event) -> None:
    task, times = a_task(spec=a_spec(max_retries=0)), 0
    while not task.state.terminal:
        back = moved(placed(task), end)
        times += 1
        task = replace(back.task, version=back.base + 1)
        if task.state is TaskState.BACKOFF:
            task = moved(task, Due(), task.not_before or T0).task
    assert times == MAX_REFUSALS + 1
    assert "sent back 21 times (limit 20); last: attempt 21" in (task.reason or "")


def test_a_node_that_knows_nothing_of_what_ran_there_has_lost_it() -> None:
    """Simulated seed 13: its machine had gone down; the limit that passed meanwhile is no failure of the job's."""
    running = an_attempt(AttemptState.STOPPING, stop_cause=Cause.TIMEOUT)
    unknown = Exited(T0 + 9, Cause.TIMEOUT, None, "a time limit passed; it never started")
    result = moved(a_task(TaskState.ACTIVE), unknown, T0 + 9, running)
    assert result.attempt is not None
    assert (result.attempt.state, result.task.state) == (AttemptState.LOST, TaskState.QUEUED)
    assert (result.task.retries, result.task.infra_losses) == (0, 1)


def test_a_refusal_costs_neither_budget() -> None:
    task = moved(placed(a_task(spec=a_spec(max_retries=0))), Refused("no room"), T0).task
    assert (task.state, task.retries, task.infra_losses) == (TaskState.BACKOFF, 0, 0)
    assert task.not_before is not None
    assert 0 < task.not_before - T0 <= 30


@pytest.mark.parametrize("state", LIVE)
def test_an_exclusive_task_is_not_let_go_with_its_node(state: AttemptState) -> None:
    task = a_task(TaskState.ACTIVE, a_spec(exclusive=True))
    assert isinstance(step(task, an_attempt(state), NodeLost(), LATER), Ignored)
    gone = moved(task, Exited(LATER, Cause.NODE_LOST), LATER, an_attempt(state))
    assert gone.task.state is TaskState.QUEUED, "once it is proven gone it may run again"
    declared = moved(task, NodeLost(gone=True), LATER, an_attempt(state))
    assert declared.task.state is TaskState.QUEUED, "or an operator vouches for it"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Exited(T0 + 17.2, None, 0), "exit code 0, 14.2 s after it was counted lost"),
        (Exited(T0 + 1, Cause.EXIT_CODE, 3), "exit code 3, 2.0 s before it was counted lost"),
        (Exited(T0 + 3, Cause.OOM, 137, "1 GiB"), "oom exit code 137 (1 GiB), 0.0 s after it was counted lost"),
        (Exited(T0 + 5, Cause.NODE_LOST, None, "watchdog"), "node_lost (watchdog), 2.0 s after it was counted lost"),
        (Refused("it is full"), "refused: it is full"),
        (Started(T0 + 5), None),
        (Prepared(), None),
        (NodeLost(), None),
        (Exited(T0 + 5, Cause.NODE_LOST, None, "the node's lease lapsed"), None),
    ],
)
def test_late_reports_are_told_once_and_move_nothing(event: Event, text: str | None) -> None:
    lost = an_attempt(A.LOST, cause=Cause.NODE_LOST, message="the node's lease lapsed")
    for task_state in TaskState:
        assert isinstance(step(a_task(task_state, attempts=2), lost, event, LATER), Ignored)
    assert late(lost, event) == text  # pyright: ignore[reportArgumentType]
    assert late(replace(lost, late="told"), event) is None  # pyright: ignore[reportArgumentType]
    for other in A:
        if other is not A.LOST:
            assert late(an_attempt(other), event) is None  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("spec", "state", "message"),
    [
        (a_spec(start_timeout=10.0), A.PLACED, "start_timeout of 10 s"),
        (a_spec(start_timeout=10.0), A.PREPARING, "start_timeout of 10 s"),
        (a_spec(attempt_timeout=10.0), A.RUNNING, "attempt_timeout of 10 s"),
        (a_spec(job_deadline=10.0), A.RUNNING, "job_deadline of 10 s"),
        (a_spec(job_deadline=10.0), A.PLACED, "job_deadline of 10 s"),
    ],
)
def test_limits_of_a_live_attempt(spec: JobSpec, state: AttemptState, message: str) -> None:
    """The worker enforces them first; the scheduler a margin later, and again if no exit comes."""
    task, attempt = a_task(TaskState.ACTIVE, spec), an_attempt(state)
    moment = wake_at(task, attempt)
    assert moment is not None
    assert T0 + 10 + ENFORCE_MARGIN_S <= moment <= T0 + 11 + ENFORCE_MARGIN_S
    assert isinstance(step(task, attempt, Due(), moment - 0.1), Ignored), "not before its time"
    stopping = moved(task, Due(), moment, attempt)
    assert stopping.attempt is not None
    assert (stopping.attempt.state, stopping.attempt.stop_cause) == (A.STOPPING, Cause.TIMEOUT)
    assert isinstance(stopping.commands[0], StopCommand)
    assert message in stopping.commands[0].message
    again_at = wake_at(stopping.task, stopping.attempt)
    assert again_at == moment + spec.stop_grace + ENFORCE_MARGIN_S
    again = moved(stopping, Due(), again_at)
    assert again.commands
    assert again.records == ()


def test_a_start_is_told_once_even_while_stopping() -> None:
    """A stop may overtake the report of the start; the start may come twice."""
    stopping = moved(placed(a_task()), CancelRequested())
    started = moved(stopping, Started(T0 + 1))
    assert started.attempt is not None
    assert (started.attempt.state, started.attempt.started_at) == (A.STOPPING, T0 + 1)
    assert [r.type for r in started.records] == ["job.started"]
    assert isinstance(step(started.task, started.attempt, Started(T0 + 2), T0 + 2), Ignored)


@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.BACKOFF, TaskState.HELD, TaskState.BLOCKED])
def test_the_deadline_ends_a_task_that_waits(state: TaskState) -> None:
    task = a_task(state, a_spec(job_deadline=3.0))
    assert wake_at(task, None) == T0 + 3
    over = moved(task, Due(), T0 + 3).task
    assert over.state is TaskState.FAILED
    assert "job_deadline of 3 s" in (over.reason or "")


def test_the_queue_timeout_counts_from_the_last_queueing() -> None:
    task = a_task(spec=a_spec(queue_timeout=10.0), queued_at=T0 + 50)
    assert wake_at(task, None) == T0 + 60
    assert isinstance(step(task, None, Due(), T0 + 59), Ignored)
    assert "queue_timeout of 10 s" in (moved(task, Due(), T0 + 60).task.reason or "")


def test_a_failure_past_the_deadline_is_the_last() -> None:
    task = a_task(TaskState.ACTIVE, a_spec(job_deadline=10.0))
    over = moved(task, Exited(T0 + 10, Cause.TIMEOUT), T0 + 10, an_attempt()).task
    assert over.state is TaskState.FAILED
    assert "job_deadline passed" in (over.reason or "")


def test_cancel_stops_the_attempt_once() -> None:
    first = moved(moved(placed(a_task()), Started(T0)), CancelRequested())
    assert [type(c) for c in first.commands] == [StopCommand]
    assert isinstance(step(first.task, first.attempt, CancelRequested(), T0), Ignored)
    timed_out = an_attempt(A.STOPPING, stop_cause=Cause.TIMEOUT)
    asked = moved(a_task(TaskState.ACTIVE), CancelRequested(), T0, timed_out)
    assert asked.commands == ()
    assert asked.attempt == timed_out
    assert moved(asked, Exited(T0, Cause.TIMEOUT)).task.state is TaskState.CANCELLED


def test_success_beats_a_cancel_that_came_too_late() -> None:
    asked = moved(moved(placed(a_task()), Started(T0)), CancelRequested())
    assert moved(asked, Exited(T0, None, 0)).task.state is TaskState.SUCCEEDED


def test_retry_now_skips_the_rest_of_the_backoff() -> None:
    queued = moved(a_task(TaskState.BACKOFF), RetryRequested(), LATER).task
    assert (queued.state, queued.queued_at, queued.not_before) == (TaskState.QUEUED, LATER, None)


def test_two_steps_fold_into_one() -> None:
    first = placed(a_task())
    second = step(first.task, first.attempt, Started(T0), T0)
    assert isinstance(second, Step)
    both = fold(first, second)
    assert (both.base, both.task, both.attempt) == (first.base, second.task, second.attempt)
    assert both.records == first.records + second.records
    assert both.commands == first.commands


EVENT = st.one_of(
    st.just("place"),
    st.just(Prepared()),
    st.builds(Started, at=st.just(T0)),
    st.builds(Exited, at=st.just(T0), cause=st.sampled_from([None, *Cause]), started_at=st.sampled_from([None, T0])),
    st.just(Refused("no")),
    st.just(NodeLost()),
    st.just(NodeLost(gone=True)),
    st.just(Due()),
    st.just(Due()),
    st.just(DrainDue()),
    st.just(CancelRequested()),
    st.just(RetryRequested()),
)
SPEC = st.builds(
    a_spec,
    max_retries=st.integers(0, 3),
    max_infra_losses=st.sampled_from([0, 2, 5, 100]),
    backoff=st.just(Backoff(initial=0.5)),
    exclusive=st.booleans(),
    job_deadline=st.sampled_from([None, 50.0]),
    attempt_timeout=st.sampled_from([None, 5.0]),
    queue_timeout=st.sampled_from([None, 20.0]),
)


@settings(max_examples=150, deadline=None)
@given(spec=SPEC, history=st.lists(st.tuples(EVENT, st.booleans(), st.integers(0, 30)), max_size=60))
def test_any_history_keeps_the_ledger_whole(spec: JobSpec, history: list[tuple[Event | str, bool, int]]) -> None:
    """Events reach the latest attempt or an older one, doubled and out of order, as reports on streams may."""
    task, now = a_task(spec=spec, version=0), T0
    tried: dict[AttemptId, Attempt] = {}
    latest: Attempt | None = None
    ends = outcomes = 0
    for number, (given_event, to_older, wait) in enumerate(history):
        now += wait
        attempt = next(iter(tried.values())) if to_older and tried else latest
        event = (
            Placed(AttemptId(f"att_{number}"), NodeId("node_1"), "n1", 1)
            if isinstance(given_event, str)
            else given_event
        )
        if not isinstance(event, Prepared | Started | Exited | Refused | NodeLost):
            attempt = latest
        result = step(task, attempt, event, now)
        invariants(task, attempt, event, result)
        if isinstance(result, Ignored):
            continue
        was_over = {a.id for a in tried.values() if a.state.terminal}
        task = replace(result.task, version=result.base + 1)
        if result.attempt is not None:
            tried[result.attempt.id] = latest = result.attempt
        ends += task.state.terminal
        newly = {a.id for a in tried.values() if a.state.terminal} - was_over
        assert len(newly) <= 1
        told = [r.data["attempt_id"] for r in result.records if "outcome" in r.data]
        assert told == list(newly), "each attempt's outcome is told once, when it ends"
        outcomes += len(newly)
        assert sum(not a.state.terminal for a in tried.values()) == (task.state is TaskState.ACTIVE)
        assert task.retries <= spec.max_retries
        assert task.infra_losses <= spec.max_infra_losses + 1
        assert task.node_losses <= MAX_NODE_LOSSES
        assert task.refusals <= MAX_REFUSALS + 1
        assert task.retries + task.infra_losses + task.refusals <= task.attempts
        assert task.attempts == len(tried)
    assert ends == task.state.terminal
    assert outcomes == sum(a.state.terminal for a in tried.values())
