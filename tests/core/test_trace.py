"""Trace context: what is taken from a client, and the ids that follow from tasks."""

import pytest

from windlass.core.ids import TaskId
from windlass.core.trace import TraceContext, attempt_span, parse, place_span

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"00-{TRACE}-{SPAN}-ff", 3),
        (f"cc-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
    ],
)
def test_a_valid_one_is_taken(text: str, flags: int) -> None:
    found = parse(text)
    assert found == TraceContext(TRACE, SPAN, flags)
    assert found.traceparent == f"00-{TRACE}-{SPAN}-{flags:02x}"
    assert found.sampled == bool(flags & 1)


@pytest.mark.parametrize(
    "text",
    [
        "", "-", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-01-",
        f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc-{TRACE}-{SPAN}-01what", f" 00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-0١", f"00-{TRACE}-{SPAN}-01\n",
        f"00_{TRACE}_{SPAN}_01", f"00-{TRACE[:-1]}-{SPAN}-01", "x" * 10_000,
    ],
)  # fmt: skip
def test_any_other_counts_for_nothing(text: str) -> None:
    assert parse(text, "rojo=1") is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" rojo=1 ,\tcongo=2,,", "rojo=1,congo=2"),
        ("fw529a3039@dt=FfDNbgUAAAA", "fw529a3039@dt=FfDNbgUAAAA"),
        ("a=1=2", ""), ("A=1", ""), ("a", ""), ("a=", ""), ("a=é", ""), ("a=1\n", ""), ("", ""),
        (",".join(f"k{n}=1" for n in range(33)), ""), (f"a={'x' * 256},b={'x' * 256}", ""),
    ],
)  # fmt: skip
def test_of_a_state_that_is_not_valid_nothing_is_kept(given: str, kept: str) -> None:
    found = parse(f"00-{TRACE}-{SPAN}-01", given)
    assert found is not None
    assert found.state == kept


def test_ids_follow_from_task_and_number() -> None:
    ids = {
        make(TaskId(task), n) for make in (place_span, attempt_span) for task in ("tsk_a", "tsk_b") for n in (1, 2, 11)
    }
    assert len(ids) == 12
    assert attempt_span(TaskId("tsk_a"), 1) == attempt_span(TaskId("tsk_a"), 1)
    assert all(parse(f"00-{TRACE}-{span}-01") for span in ids)
