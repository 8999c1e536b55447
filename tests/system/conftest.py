"""Clusters for system tests: one that all peaceful tests share, and fresh ones for those that break things."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.conftest import TEMPLATE, Servers
from tests.leaks import shared_by_tests
from tests.system.cluster import Cluster
from windlass.embedded.folder import DataFolder
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.store.migrate import migrate

_numbers = count(1)


@contextmanager
def _fresh(servers: Servers, parent: Path) -> Iterator[Cluster]:
    """A cluster without roles, over a database and streams of its own."""
    name = f"sys{next(_numbers)}"
    servers.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY wal_log")
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{name} "))
    folder.chmod(0o711)
    made = Cluster(folder, name, servers.url_of(name), servers.valkey_url)
    try:
        yield made
    finally:
        made.close()
        servers.execute(f"DROP DATABASE {name} WITH (FORCE)")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared(servers: Servers, roomy_folder: Path) -> Iterator[Cluster]:
    """API, scheduler and one worker that every peaceful test may use at once."""
    with _fresh(servers, roomy_folder) as cluster:
        with shared_by_tests():
            cluster.api()
            cluster.scheduler()
            cluster.worker()
        yield cluster


@pytest.fixture
async def calm(shared: Cluster) -> Cluster:
    """The shared cluster, ready."""
    await shared.ready()
    return shared


@pytest.fixture
def cluster(servers: Servers, roomy_folder: Path) -> Iterator[Cluster]:
    """This test's own, no role started yet."""
    with _fresh(servers, roomy_folder) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def own_servers(roomy_folder: Path) -> Iterator[Servers]:
    """PostgreSQL and Valkey that this module may kill; ready for clusters."""
    path = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="own servers "))
    with start_blocking_portal() as portal, DataFolder(path) as folder:
        postgres, valkey = Postgres(folder), Valkey(folder)
        try:
            found = Servers(postgres, valkey, portal.call(postgres.start), portal.call(valkey.start), portal)
            found.execute(f"CREATE DATABASE {TEMPLATE}")
            portal.call(migrate, found.url_of(TEMPLATE))
            yield found
        finally:
            portal.call(postgres.stop)
            portal.call(valkey.stop)


@pytest.fixture
def fragile(own_servers: Servers, roomy_folder: Path) -> Iterator[Cluster]:
    """A cluster whose servers may be killed; no role started yet."""
    with _fresh(own_servers, roomy_folder) as cluster:
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows the last words of every role it had."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Cluster):
                report.sections.append(("roles", value.words()))
    return report
