"""A cluster of real roles that tell a collector of their work."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TEMPLATE, Servers
from tests.leaks import shared_by_tests
from tests.system.cluster import Cluster
from tests.system.conftest import pytest_runtest_makereport as pytest_runtest_makereport
from tests.tracing.collector import Collector, collecting


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as kept:
        yield kept


@pytest.fixture(scope="module")
def traced_cluster(servers: Servers, roomy_folder: Path, collector: Collector) -> Iterator[Cluster]:
    """API, scheduler and one worker, each with an exporter."""
    servers.execute(f"CREATE DATABASE traced TEMPLATE {TEMPLATE} STRATEGY wal_log")
    folder = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="traced "))
    folder.chmod(0o711)
    made = Cluster(folder, "traced", servers.url_of("traced"), servers.valkey_url)
    told = {"tracing.exporter": "otlp", "tracing.endpoint": collector.url}
    with shared_by_tests(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        made.api(**told)
        made.scheduler(**told)
        made.worker(links=told, heartbeat_s=0.5)
    try:
        yield made
    finally:
        made.close()
        servers.execute("DROP DATABASE traced WITH (FORCE)")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def traced(traced_cluster: Cluster) -> Cluster:
    """The same, ready."""
    await traced_cluster.ready()
    return traced_cluster
