"""Delays and leases: bounds, spread, and the same answer every time."""

from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0, a_spec, a_task, an_attempt
from windlass.core.lease import trusted_until
from windlass.core.retry import after, delay
from windlass.core.spec import Backoff
from windlass.core.states import AttemptState, Cause, TaskState

BACKOFF = st.builds(
    Backoff,
    initial=st.floats(0, 1000),
    factor=st.floats(1, 100),
    max=st.floats(0, 100_000),
    jitter=st.floats(0, 1),
)


@given(BACKOFF, st.integers(0, 200), st.text())
def test_a_delay_stays_in_its_bounds(backoff: Backoff, retry: int, salt: str) -> None:
    got = delay(backoff, retry, salt)
    base = min(backoff.initial * backoff.factor ** min(retry, 64), backoff.max)
    assert max(0.0, base * (1 - backoff.jitter)) * 0.999999 <= got <= backoff.max
    assert got <= base * (1 + backoff.jitter) * 1.000001
    assert got == delay(backoff, retry, salt)


def test_delays_grow_and_are_capped() -> None:
    steady = Backoff(initial=1, factor=2, max=10, jitter=0)
    assert [delay(steady, n, "x") for n in range(6)] == [1, 2, 4, 8, 10, 10]


def test_jitter_spreads_tasks_that_failed_together() -> None:
    got = sorted(delay(Backoff(initial=100, jitter=0.5), 0, f"att_{n}") for n in range(200))
    assert 50 <= got[0] < 60
    assert 140 < got[-1] <= 150
    assert len(set(got)) == 200


def test_a_failure_waits_and_a_loss_does_not() -> None:
    task = a_task(TaskState.ACTIVE, a_spec(backoff=Backoff(initial=10, jitter=0)), retries=1)
    failed = after(task, an_attempt(AttemptState.FAILED, cause=Cause.SIGNAL, exit_code=9), T0)
    assert (failed.task.state, failed.task.not_before, failed.delay_s) == (TaskState.BACKOFF, T0 + 20, 20)
    assert failed.task.reason == "attempt 1 failed on n1: signal 9"
    lost = after(task, an_attempt(AttemptState.LOST, cause=Cause.NODE_LOST, message="gone"), T0)
    assert (lost.task.state, lost.task.queued_at, lost.delay_s) == (TaskState.QUEUED, T0, 0)
    assert lost.task.reason == "attempt 1 lost on n1: node_lost (gone)"


def test_a_slow_renewal_never_stretches_the_trust() -> None:
    assert trusted_until(100, 3) == 102
    assert trusted_until(100, 1) == 100.5
