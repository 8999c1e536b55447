"""How many workers are needed, by what waits and runs."""

import pytest

from tests.builders import GIB, a_node, a_shape
from windlass.core.placement.demand import Demand, scale, total, worker_size
from windlass.core.placement.snapshot import Room
from windlass.core.states import NodeState

SIZE = Room(4000, 8 * GIB)


def demand(waiting: int, live: int = 0, cpu: float = 1.0, memory: int = GIB) -> Demand:
    return Demand(a_shape(cpu, memory), waiting, live)


@pytest.mark.parametrize(
    ("wanted", "workers"),
    [
        ([], 0),
        ([demand(1)], 1),
        ([demand(4)], 1),
        ([demand(5)], 2),
        ([demand(4, live=4)], 2),
        ([demand(0, live=1)], 1),
        ([demand(3, memory=4 * GIB)], 2),  # memory is the scarcer one: two fit
        ([demand(2), demand(4, cpu=0.5)], 1),  # half a worker and half a worker
        ([demand(3, cpu=3)], 3),  # what three leave over is room for none of them
        ([demand(1_000_000, cpu=0.1, memory=1)], 25_000),
    ],
)
def test_workers_that_hold_all_at_once(wanted: list[Demand], workers: int):
    assert scale(wanted, SIZE).workers == workers


def test_what_fits_in_no_worker_asks_for_none():
    found = scale([demand(7, cpu=5), demand(1)], SIZE)
    assert (found.workers, found.unplaceable) == (1, 7)


def test_the_first_worker_tells_the_size():
    assert scale([demand(1000)], None).workers == 1
    assert scale([demand(0)], None).workers == 0


def test_the_smallest_worker_there_is_is_counted_with():
    big, small, gone = a_node("a", 8), a_node("b", 2), a_node("c", 1, state=NodeState.LOST)
    assert worker_size([big, small, gone]) == small.capacity
    assert worker_size([gone]) == gone.capacity
    assert worker_size([]) is None


def test_totals_and_fits():
    assert total((one.shape, one.waiting) for one in [demand(2), demand(3, cpu=2)]) == (5, Room(8000, 5 * GIB))
    assert SIZE.times(Room(1500, 1)) == 2
    assert SIZE.times(Room(0, 1)) == SIZE.millis, "a need of nothing, should a later version allow it, is no fault"
