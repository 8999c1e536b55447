"""Planted defects are caught: a simulation that does not see these would not see others."""

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.test_seeds import simulated


@pytest.mark.parametrize("name", [mutation.name for mutation in MUTATIONS])
def test_a_planted_defect_is_caught_within_its_seeds(name: str) -> None:
    found = simulated("--mutations", name)
    assert list(found) == [name]
    seed, _ = found[name]
    assert seed is not None
