"""Ids: UUIDv7 bits in letters that sort by time of birth."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from windlass.core.ids import ATTEMPT, JOB, NODE, TASK, JobId, is_id, make_id, task_of

LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
MS, BITS = st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1)


def as_uuid(made: str) -> uuid.UUID:
    value = 0
    for letter in made.split("_")[1]:
        value = value << 5 | LETTERS.index(letter)
    return uuid.UUID(int=value)


@given(MS, BITS)
def test_an_id_is_a_uuid_of_version_7(ms: int, bits: int) -> None:
    made = as_uuid(make_id(JOB, ms, bits))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == ms
    assert (made.int >> 64 & 0xFFF) << 62 | made.int & (2**62 - 1) == bits


@given(st.tuples(MS, BITS), st.tuples(MS, BITS))
def test_ids_sort_by_birth(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (make_id(JOB, *one) < make_id(JOB, *other)) == (one < other)


@given(MS, BITS, st.sampled_from([JOB, TASK, ATTEMPT, NODE]))
def test_an_id_is_known_by_its_form(ms: int, bits: int, prefix: str) -> None:
    made = make_id(prefix, ms, bits)
    assert is_id(made, prefix)
    assert not any(is_id(made, other) for other in (JOB, TASK, ATTEMPT, NODE) if other != prefix)
    assert not is_id(made + "\n", prefix)
    assert not is_id(made.upper(), prefix)
    assert not is_id(made[:-1], prefix)


@given(st.text())
def test_no_text_breaks_the_check(text: str) -> None:
    assert not is_id(text, JOB)


def test_a_plain_jobs_task_is_named_after_it() -> None:
    job = JobId(make_id(JOB, 1, 2))
    assert is_id(task_of(job), TASK)
    assert task_of(job).removeprefix("tsk_") == job.removeprefix("job_")
    assert task_of(job, 7) == task_of(job) + "_7"
