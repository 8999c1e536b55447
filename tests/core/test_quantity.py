"""Quantities in the field's notation, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.core.quantity import parse_cpu, parse_duration, parse_size, show_cpu, show_size

HUGE = pytest.param(10**400, id="huge")
LONG = pytest.param("9" * 1_000_010, id="long")


@pytest.mark.parametrize(
    ("text", "cores"), [(0.5, 0.5), ("0.5", 0.5), ("500m", 0.5), (2, 2.0), ("1m", 0.001), (" 4 ", 4.0), ("1e1", 10.0)]
)
def test_cpu(text: object, cores: float) -> None:
    assert parse_cpu(text) == cores


@pytest.mark.parametrize(
    "bad",
    [
        0,
        -1,
        "0",
        "",
        "m",
        "lots",
        True,
        None,
        [1],
        "0.0001",
        "0.5m",
        "nan",
        "inf",
        "sNaN",
        float("nan"),
        1e9,
        HUGE,
        "1e-999999999",
        LONG,
    ],
)
def test_cpu_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_cpu(bad)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512Mi", 512 * 2**20),
        ("1G", 10**9),
        ("1.5Gi", 3 * 2**29),
        ("1.3Ki", 1331),
        ("1.9", 1),
        ("1KiB", 1024),
        (1024, 1024),
        (1024.0, 1024),
        ("7", 7),
        ("1k", 1000),
        ("1024Pi", 2**60),
    ],
)
def test_size(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "bad",
    [
        0,
        "0",
        -1,
        "-1Mi",
        "",
        "Mi",
        "1mi",
        0.5,
        "0.5",
        True,
        None,
        {},
        "1e9",
        "1025Pi",
        float("inf"),
        HUGE,
        LONG,
    ],
)
def test_size_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_size(bad)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0),
        ("90s", 90.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1d", 86400.0),
        ("1.5s", 1.5),
        ("2", 2.0),
        (0, 0.0),
    ],
)
def test_duration(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "bad",
    [
        -1,
        "",
        " ",
        "-5s",
        "1w",
        "s",
        "5s5m",
        True,
        None,
        [],
        "nan",
        "inf",
        float("inf"),
        HUGE,
        LONG,
        pytest.param("9" * 400 + "d", id="nines"),
    ],
)
def test_duration_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_duration(bad)


@pytest.mark.parametrize("parse", [parse_cpu, parse_size, parse_duration])
@given(value=st.one_of(st.text("0123456789.eE+-_KMGTPimBhdsnaN ٣", max_size=12), st.integers(), st.floats(), st.none()))
def test_what_is_accepted_is_itself_valid_input(parse, value: object) -> None:
    try:
        canonical = parse(value)
    except ValueError:
        return
    assert canonical >= 0
    assert parse(canonical) == canonical


@given(st.integers(1, 2**60), st.integers(1, 10**8))
def test_shown_quantities_read_well(size: int, millis: int) -> None:
    assert parse_size(show_size(size)) == pytest.approx(size, rel=1e-3)
    assert parse_cpu(show_cpu(millis / 1000)) == millis / 1000
