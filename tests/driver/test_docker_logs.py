"""Output of containers: offsets over dropped streams, restarts, long lines and floods."""

import asyncio
import itertools
import json
import random
import resource
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.driver.conftest import DockerStage
from tests.driver.play import follow, opened
from tests.support import HANG_S
from windlass.driver.base import EngineUnavailable
from windlass.driver.docker_logs import STREAMS, Cursor, Demultiplexer, Mark, MarkBook, moment, read_from, seconds

KINDS = {stream: kind for kind, stream in STREAMS.items()}
PART = 16 * 1024


def stamp(tick: int) -> bytes:
    return b"2026-11-23T15:53:%02d.%09dZ" % (tick // 1000, tick % 1000 * 1_000_000)


def as_engine_tells(writes: list[tuple[str, bytes]]) -> list[tuple[int, int, bytes]]:
    """(tick, kind, content) of each message Engine 20.10 keeps of these lines: long ones cut, their newline lost."""
    told: list[tuple[int, int, bytes]] = []
    for tick, (stream, line) in enumerate(writes):
        parts = [line[at : at + PART] for at in range(0, len(line), PART)] or [b""]
        ends = b"\n" if len(parts) == 1 else b""
        told += [(tick, KINDS[stream], part + (ends if part is parts[-1] else b"")) for part in parts]
    return told


def frames(told: list[tuple[int, int, bytes]], since: str = "") -> bytes:
    start = moment(since) if since else (0, 0)
    framed = [
        bytes([kind, 0, 0, 0]) + (len(content) + len(stamp(tick)) + 1).to_bytes(4) + stamp(tick) + b" " + content
        for tick, kind, content in told
        if moment(seconds(stamp(tick))) >= start
    ]
    return b"".join(framed)


LINES = st.lists(
    st.tuples(
        st.sampled_from(list(KINDS)),
        st.one_of(st.binary(max_size=40), st.sampled_from([PART, PART + 1, 3 * PART]).map(lambda n: b"x" * n)).map(
            lambda line: line.replace(b"\n", b"")
        ),
    ),
    max_size=30,
)


@given(LINES, st.randoms(use_true_random=False), st.integers(0, 4))
def test_any_run_of_breaks_gives_each_byte_once(writes: list[tuple[str, bytes]], chance: random.Random, breaks: int):
    writes = [*writes, ("stdout", b"end"), ("stderr", b"end")]
    told = as_engine_tells(writes)
    expected = {stream: b"".join(line + b"\n" for of, line in writes if of == stream) for stream in KINDS}
    cursors = {kind: Cursor(stream, Mark(), 0) for kind, stream in STREAMS.items()}
    at: dict[str, int] = {}
    got = dict.fromkeys(KINDS, b"")
    for last in [False] * breaks + [True]:
        answer = frames(told, read_from(cursor.mark() for cursor in cursors.values()))
        if not last:
            answer = answer[: chance.randint(0, len(answer))]
        split = Demultiplexer(cursors)
        while answer:
            size = chance.randint(1, 40_000)
            for chunk in split.feed(answer[:size]):
                follow(chunk, at)
                got[chunk.stream] += chunk.data
            answer = answer[size:]
        for cursor in cursors.values():
            cursor.rewind(cursor.mark())
    assert got == expected


def test_a_restarted_reader_goes_on_from_a_mark_when_the_beginning_is_gone(tmp_path):
    line = b"y" * 999
    told = as_engine_tells([("stdout", line)] * 10_000)
    cursors = {kind: Cursor(stream, Mark(), 0) for kind, stream in STREAMS.items()}
    book, split = MarkBook(tmp_path), Demultiplexer(cursors)
    for message in told[:9_000]:
        for _ in split.feed(frames([message])):
            book.note(cursors.values())
    shipped = {"stdout": 8_500_123}
    marks = MarkBook(tmp_path).best(shipped)
    assert marks["stdout"].offset > 8_000_000
    again = {
        kind: Cursor(stream, marks.get(stream, Mark()), shipped.get(stream, 0)) for kind, stream in STREAMS.items()
    }
    kept = told[7_000:]
    at = dict(shipped)
    for chunk in Demultiplexer(again).feed(frames(kept, read_from(marks.values()))):
        follow(chunk, at)
    assert at == {"stdout": 10_000 * 1000}


def test_marks_past_what_was_shipped_are_not_used(tmp_path):
    marks = [{"stdout": {"since": f"{n}.000000000", "offset": n * 100}} for n in range(1, 5)]
    (tmp_path / "log-marks.json").write_text(json.dumps(marks))
    assert MarkBook(tmp_path).best({"stdout": 250})["stdout"].offset == 200
    assert MarkBook(tmp_path).best({"stdout": 50}) == {}
    (tmp_path / "log-marks.json").write_text("torn {")
    assert MarkBook(tmp_path).best({"stdout": 250}) == {}


@pytest.mark.parametrize("frame", [b"\x03\0\0\0\0\0\0\x05oops!", b"\x01\0\0\0\xff\xff\xff\xff" + b"x" * 20])
def test_what_is_no_output_is_the_engines_trouble(frame: bytes):
    with pytest.raises(EngineUnavailable):
        list(Demultiplexer({}).feed(frame))


def test_times_of_any_zone_compare():
    assert seconds(b"2026-11-23T15:53:50.576119454Z") == seconds(b"2026-11-23T17:53:50.576119454+02:00")
    assert moment(seconds(b"2026-11-23T15:53:50.5Z")) > moment(seconds(b"2026-11-23T15:53:50.000000009Z"))


def test_what_came_before_a_fault_is_not_lost():
    cursors = {kind: Cursor(stream, Mark(), 0) for kind, stream in STREAMS.items()}
    split = Demultiplexer(cursors).feed(frames(as_engine_tells([("stdout", b"kept")])) + b"\x03\0\0\0\0\0\0\x05oops!")
    assert next(split).data == b"kept\n"
    with pytest.raises(EngineUnavailable):
        next(split)


def test_what_the_engine_tells_again_is_dropped():
    told = as_engine_tells([("stdout", b"%d" % n) for n in range(50)])
    cursors = {kind: Cursor(stream, Mark(), 0) for kind, stream in STREAMS.items()}
    answer = frames(told[:30]) + frames(told[10:40]) + frames(told[40:])
    got = b"".join(chunk.data for chunk in Demultiplexer(cursors).feed(answer))
    assert got == b"".join(b"%d\n" % n for n in range(50))


@pytest.mark.docker
def test_a_flood_is_read_whole_and_in_little_memory(docker: DockerStage):
    lines, width = 200_000, 1000

    async def scenario():
        async with opened(docker.driver()) as driver:
            script = f'BEGIN {{ for (n = 0; n < {lines}; n++) printf "%0{width - 1}d\\n", n }}'
            ticket = docker.ticket(replace(docker.base(), command=("awk", script)))
            await driver.prepare(ticket)
            await driver.start(ticket)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            at: dict[str, int] = {}
            numbers = itertools.count()
            rest = b""
            async for chunk in driver.logs(ticket, {}):
                follow(chunk, at)
                data = rest + chunk.data
                whole = len(data) // width * width
                for begin in range(0, whole, width):
                    assert int(data[begin : begin + width]) == next(numbers)
                rest = data[whole:]
            assert at == {"stdout": lines * width}
            assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 0
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024  # KiB

    asyncio.run(scenario())
