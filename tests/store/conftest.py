"""A real ledger, and more connections to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.builders import Ledger
from windlass.store.db import Conn, connect

Connect = Callable[[], Awaitable[Conn]]


@pytest.fixture
async def another(database_url: str) -> AsyncIterator[Connect]:
    """Opens one more connection to this test's database."""
    async with AsyncExitStack() as stack:

        async def opened() -> Conn:
            conn = await connect(database_url, "test")
            stack.push_async_callback(conn.close)
            return conn

        yield opened


@pytest.fixture
async def ledger(another: Connect) -> Ledger:
    return Ledger(await another())
