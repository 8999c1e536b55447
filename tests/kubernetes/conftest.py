"""Stages over the stand-in cluster, and Pods as an API server tells of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.driver.conftest import KubernetesStage
from tests.images import docker_missing
from tests.system.conftest import cluster as cluster
from tests.system.conftest import pytest_runtest_makereport as pytest_runtest_makereport


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KubernetesStage]:
    """A stand-in cluster; a test's parameter, given indirectly, is its options."""
    if why := docker_missing():
        pytest.skip(why)
    made = KubernetesStage(tmp_path, cluster_options=getattr(request, "param", {}))
    yield made
    made.kubernetes.__exit__()
