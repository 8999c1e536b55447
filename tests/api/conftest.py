"""One API per module, on a ledger emptied before each test: starting one costs more than most tests do."""

import math
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest

from tests.api.serving import Api, serving, settings_for
from tests.conftest import TEMPLATE, Servers

_TABLES = (
    "tokens", "audit", "schedulers", "jobs", "tasks", "attempts", "events", "log_chunks", "outbox", "inbox", "nodes",
    "leases",
)  # fmt: skip
EMPTY = f"DO $$BEGIN {''.join(f'DELETE FROM {table}; ' for table in _TABLES)} END$$"

_numbers = count(1)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def module_database(servers: Servers) -> Iterator[str]:
    """A database of this module's own."""
    name = f"test_api_{next(_numbers)}"
    servers.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY wal_log")
    yield servers.url_of(name)
    servers.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
async def module_api(servers: Servers, module_database: str, anyio_backend: str) -> AsyncIterator[Api]:
    async with serving(settings_for(module_database, servers.valkey_url)) as served:
        yield served


@pytest.fixture
async def api(module_api: Api, anyio_backend: str) -> Api:
    """The real application, serving on loopback, its ledger empty."""
    await module_api.ledger.conn.execute(EMPTY)
    module_api.services.nodes, module_api.services.nodes_at = [], -math.inf
    module_api.http.cookies.clear()
    return module_api
