"""How the workers of one `windlass up` share the machine."""

import pytest

from windlass.cli.fleet import Fleet
from windlass.settings import Settings, Worker

GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "workers", "each", "cpu", "memory"),
    [
        (8, 1, False, 8, 7 * GIB),
        (8, 3, False, 2.666, 2389 * 2**20),
        (8, 3, True, 8, 7 * GIB),
        (2, 3, False, 1, 2389 * 2**20),
        (0.5, 3, False, 0.5, 2389 * 2**20),
    ],
)
def test_workers_share_evenly_unless_told(cores: float, workers: int, each: bool, cpu: float, memory: int) -> None:
    settings = Settings(worker=Worker(cpu=cores, memory=7 * GIB))
    fleet = Fleet.of(settings, 1, workers, each=(each, each), processes=True)
    assert (fleet.cpu, fleet.memory) == (cpu, memory)
