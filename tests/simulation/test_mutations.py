"""Planted defects are caught: a simulation that does not see these would not see others."""

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.test_seeds import SEEDS, simulated


@pytest.mark.timeout(600)
def test_every_planted_defect_is_caught_within_its_seeds() -> None:
    found = simulated("--mutations")
    assert {name for name, (seed, _) in found.items() if seed is None} == set()
    without = {seed for seeds in SEEDS for seed in seeds}
    assert {seed for seed, _ in found.values()} <= without, "test_seeds lives through them without the defect"
    assert len(found) == len(MUTATIONS)
