"""The journal: what is written is there after any end of the process, and it does not grow for ever."""

import errno
import json
import os
from pathlib import Path

import pytest

from tests.worker.site import a_launch
from windlass.core.states import Cause
from windlass.worker import clock, journal
from windlass.worker.journal import Ended, Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.jsonl"


async def test_a_new_journal_knows_what_the_old_one_was_told(path: Path):
    running, over, forgotten = a_launch(env={"A": "ü\n"}), a_launch(), a_launch()
    first = Journal(path)
    first.launched([running, over, forgotten])
    ended = Ended(5.0, Cause.EXIT_CODE, 7, "exited", 4.0)
    first.ended(over.attempt_id, ended)
    first.ended(over.attempt_id, Ended(6.0))
    first.ended(forgotten.attempt_id, ended)
    first.forget([forgotten.attempt_id, running.attempt_id[:5]])  # pyright: ignore[reportArgumentType]
    await first.sync()
    received = first.entries[running.attempt_id].received_at
    for _ in range(3):  # each opening writes the file anew
        second = Journal(path)
        assert second.entries.keys() == {running.attempt_id, over.attempt_id}
        assert second.entries[running.attempt_id].launch == running
        assert second.entries[running.attempt_id].received_at == received
        assert second.entries[running.attempt_id].ended is None
        assert second.entries[over.attempt_id].ended == ended, "the first word counts"
        second.close()
    first.close()


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_a_torn_last_line_costs_only_itself(path: Path, cut: int):
    first, second = a_launch(), a_launch()
    old = Journal(path)
    old.launched([first])
    old.launched([second])
    old.close()
    os.truncate(path, path.stat().st_size - cut)
    again = Journal(path)
    assert again.entries.keys() == {first.attempt_id}
    again.launched([second])
    again.close()
    third = Journal(path)
    assert third.entries.keys() == {first.attempt_id, second.attempt_id}
    third.close()


@pytest.mark.parametrize(
    "rubbish", [b"", b"\0" * 4096, b"\xff\xfe\n{}\n[]\n", b'{"attempt":"att_x","ended":{"at":1}}\n']
)
def test_rubbish_is_left_out(path: Path, rubbish: bytes):
    launch = a_launch()
    old = Journal(path)
    old.launched([launch])
    old.close()
    with path.open("ab") as file:
        file.write(rubbish)
    again = Journal(path)
    assert again.entries.keys() == {launch.attempt_id}
    again.close()


def test_the_same_launch_twice_is_one_entry(path: Path):
    launch = a_launch()
    book = Journal(path)
    book.launched([launch])
    book.ended(launch.attempt_id, Ended(1.0))
    book.launched([launch])
    assert book.entries[launch.attempt_id].ended is not None
    book.close()


def test_moments_of_another_boot_are_not_believed(path: Path):
    launch = a_launch()
    book = Journal(path)
    book.launched([launch])
    book.ended(launch.attempt_id, Ended(clock.now() + 1e6, started_at=clock.now() + 1e6))
    book.close()
    path.write_text(path.read_text().replace(clock.boot_id(), "another"))
    book = Journal(path)
    ended = book.entries[launch.attempt_id].ended
    assert ended is not None
    assert ended.at <= clock.now()
    assert ended.started_at is None
    book.close()


def test_what_was_launched_before_a_reboot_is_known_as_such_ever_after(path: Path):
    before, after = a_launch(), a_launch()
    book = Journal(path)
    book.launched([before])
    book.close()
    path.write_text(path.read_text().replace(clock.boot_id(), "another"))
    for _ in range(3):  # of this boot, each of them
        book = Journal(path)
        book.launched([after])
        assert {a: entry.rebooted for a, entry in book.entries.items()} == {
            before.attempt_id: True,
            after.attempt_id: False,
        }
        book.close()


def test_a_disk_that_fills_loses_no_line_but_the_torn_one(path: Path, monkeypatch: pytest.MonkeyPatch):
    book = Journal(path)
    first, torn, third = a_launch(), a_launch(), a_launch()
    book.launched([first])
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:40]))
    with pytest.raises(OSError, match="full"):
        book.launched([torn])
    assert torn.attempt_id not in book.entries
    book.ended(first.attempt_id, Ended(clock.now(), exit_code=3))
    monkeypatch.undo()
    book.launched([third])
    assert book.entries[first.attempt_id].ended is not None
    book.close()
    again = Journal(path)
    assert set(again.entries) == {first.attempt_id, third.attempt_id}
    again.close()


async def test_it_stays_small(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "COMPACT_BYTES", 20_000)
    book = Journal(path)
    kept = a_launch()
    book.launched([kept])
    largest = 0
    for _ in range(300):
        launch = a_launch()
        book.launched([launch])
        book.ended(launch.attempt_id, Ended(1.0, None, 0))
        book.forget([launch.attempt_id])
        await book.sync()
        largest = max(largest, path.stat().st_size)
    assert largest < 25_000
    assert Journal(path).entries.keys() == {kept.attempt_id}
    book.close()


async def test_compaction_lets_go_of_old_files(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "COMPACT_BYTES", 0)
    before = len(os.listdir("/proc/self/fd"))
    book = Journal(path)
    for _ in range(20):
        launch = a_launch()
        book.launched([launch])
        book.forget([launch.attempt_id])
    book.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_nobody_else_may_read_it(path: Path):
    book = Journal(path)
    book.launched([a_launch(env={"SECRET": "x"})])
    book.close()
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text().splitlines()[1])["launch"]["spec"]["env"] == {"SECRET": "x"}


def test_a_full_disk_never_replaces_the_journal_by_half_of_one(path: Path, monkeypatch: pytest.MonkeyPatch):
    first = Journal(path)
    launch = a_launch()
    first.launched([launch])
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(journal.os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="full"):
            first._rewrite()
    first.close()
    second = Journal(path)
    assert set(second.entries) == {launch.attempt_id}
    second.close()


def test_on_a_full_disk_there_is_room_for_how_things_end(path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = Journal(path)
    launch = a_launch()
    opened.launched([launch])
    spare, write = path.with_suffix(".spare"), os.write

    def full(fd: int, data: bytes) -> int:
        if spare.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    with monkeypatch.context() as disk:
        disk.setattr(journal.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            opened.launched([a_launch()])
        opened.stopping(launch.attempt_id, Cause.TIMEOUT, "too long")
        assert not spare.exists()
    opened.close()
    again = Journal(path)
    assert again.entries[launch.attempt_id].stop == (Cause.TIMEOUT, "too long")
    assert spare.stat().st_size == journal.RESERVE_BYTES


def test_it_opens_on_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch):
    """What runs is taken over, and how it ends is noted once there is room, whatever the last line looks like."""
    launch, torn = a_launch(), a_launch()
    first = Journal(path)
    first.launched([launch])
    first.launched([torn])
    first.close()
    os.truncate(path, path.stat().st_size - 9)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(journal.os, "write", lambda fd, data: write(fd, data[:20]))
        second = Journal(path)
    assert set(second.entries) == {launch.attempt_id}
    second.ended(launch.attempt_id, Ended(clock.now(), exit_code=3))
    second.close()
    third = Journal(path)
    ended = third.entries[launch.attempt_id].ended
    assert ended is not None
    assert ended.exit_code == 3
    third.close()
