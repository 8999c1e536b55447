"""The closed sets: what is over, and how a task's state reads as its job's."""

import pytest

from windlass.core.states import (
    TERMINAL_ATTEMPT,
    TERMINAL_TASK,
    AttemptState,
    JobState,
    TaskState,
    job_state,
    task_states,
)


def test_a_job_ends_when_its_task_does() -> None:
    assert {job_state(state) for state in TERMINAL_TASK} == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    assert all(state.terminal == (state in TERMINAL_TASK) for state in TaskState)
    assert all(state.terminal == (state in TERMINAL_ATTEMPT) for state in AttemptState)


@pytest.mark.parametrize("state", JobState)
def test_every_job_state_stands_for_task_states(state: JobState) -> None:
    assert task_states(state)
    assert all(job_state(task) is state for task in task_states(state))


def test_every_task_state_reads_as_one_job_state() -> None:
    assert sorted(task for job in JobState for task in task_states(job)) == sorted(TaskState)
