"""What every test level may ask for: real servers, a fresh database, an empty stream server.

The servers are the embedded ones, started once per session (and per xdist process) and only when a test wants them.
"""

import inspect
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from psycopg import sql

from tests.images import docker_missing
from tests.leaks import nothing_left
from tests.steps import PART, step_of
from windlass.embedded.folder import DataFolder
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.store.migrate import migrate

TEMPLATE = "windlass_template"


@dataclass(frozen=True)
class Servers:
    """The session's servers. `portal` runs coroutines on the loop they live in."""

    postgres: Postgres
    valkey: Valkey
    postgres_url: str
    valkey_url: str
    portal: BlockingPortal

    def execute(self, statement: sql.Composable | str) -> None:
        """Run one administrative statement outside any transaction."""
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            connection.execute(statement)  # pyright: ignore[reportArgumentType]

    def url_of(self, database: str) -> str:
        """The URL of another database of the same server."""
        return self.postgres_url.replace("/postgres?", f"/{database}?")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _nothing_from_outside() -> None:
    """No settings, and no signal ignored: a child inherits both (a shell's `&` ignores SIGINT, nohup SIGHUP)."""
    for name in [name for name in os.environ if name.startswith("WINDLASS_")]:
        del os.environ[name]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Name what a test with real processes leaves running, in that test. Set up before its own fixtures, so it looks
    when they are gone."""
    if step_of(request.node) is PART:
        yield
        return
    with nothing_left(request.node.nodeid):
        yield


@pytest.fixture(scope="session")
def roomy_folder() -> Iterator[Path]:
    """A folder servers that run as another user can reach; pytest's own is closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def servers(roomy_folder: Path) -> Iterator[Servers]:
    """PostgreSQL with a migrated template database, and Valkey."""
    with start_blocking_portal() as portal, DataFolder(roomy_folder / "shared servers") as folder:
        postgres, valkey = Postgres(folder), Valkey(folder)
        try:
            found = Servers(postgres, valkey, portal.call(postgres.start), portal.call(valkey.start), portal)
            found.execute(f"CREATE DATABASE {TEMPLATE}")
            portal.call(migrate, found.url_of(TEMPLATE))
            yield found
        finally:
            portal.call(postgres.stop)
            portal.call(valkey.stop)


_numbers = count(1)


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A fresh, migrated database of this test's own."""
    name = f"test_{next(_numbers)}"
    servers.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY wal_log")
    yield servers.url_of(name)
    servers.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """A stream server with nothing in it."""
    with redis.Redis.from_url(servers.valkey_url) as client:
        client.flushall()
    return servers.valkey_url


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(obj: object) -> None:
    """Every coroutine test runs on anyio's plugin without saying so."""
    if inspect.iscoroutinefunction(obj):
        pytest.mark.anyio(obj)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test with its step, and with the step's guard against hanging unless it has one of its own."""
    step = step_of(item)
    item.add_marker(step.mark)
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(step.hangs_s))


#: The files that take longest: begun first, so that none of them is what the others wait for at the end.
LONGEST = (
    "test_compose.py",
    "test_demo.py",
    "test_crashes.py",
    "test_commands.py",
    "test_doorbell.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files stay whole, for each is one process's; within that the order is the random one."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a Docker Engine is skipped, with the reason, where none answers."""
    if item.get_closest_marker("docker") and (reason := docker_missing()):
        pytest.skip(reason)
