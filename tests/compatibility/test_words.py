"""Words in a spec: what schedulers of the version before can read, and what the API therefore holds back."""

import importlib
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from tests.builders import Ledger, a_spec
from windlass.core.states import Driver
from windlass.store import schedulers


def recorded() -> ModuleType:
    """The messages and the spec of the version before."""
    [file] = Path(__file__).parent.glob("wire_*.py")
    return importlib.import_module(f"tests.compatibility.{file.stem}")


def test_who_says_nothing_is_taken_to_know_what_the_version_before_knew() -> None:
    assert {driver.value for driver in recorded().Driver} == schedulers.UNSAID


@pytest.mark.parametrize("driver", list(Driver))
def test_what_is_held_back_is_what_the_version_before_cannot_read(driver: Driver) -> None:
    spec = msgspec.json.encode(a_spec(driver=driver))
    try:
        msgspec.json.decode(spec, type=recorded().JobSpec)
        known = True
    except msgspec.ValidationError:
        known = False
    assert known is (driver.value in schedulers.UNSAID)


async def test_what_a_scheduler_can_read_is_said_by_itself(ledger: Ledger) -> None:
    await schedulers.seen(ledger.conn, "sched_new", "boreas", 2, "0.3.0", redis_degraded=False)
    old = "INSERT INTO schedulers (id, host, pid, version) VALUES ('sched_old', 'atlas', 1, '0.2.0')"
    await ledger.conn.execute(old)
    assert {one.version: one.drivers for one in await schedulers.readers(ledger.conn)} == {
        "0.3.0": frozenset(Driver),
        "0.2.0": schedulers.UNSAID,
    }
    await ledger.conn.execute("UPDATE schedulers SET seen_at = now() - interval '2 minutes' WHERE id = 'sched_old'")
    assert [one.version for one in await schedulers.readers(ledger.conn)] == ["0.3.0"]
