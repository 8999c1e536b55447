"""A ledger as this version's migrations leave it."""

from collections.abc import AsyncIterator

import pytest

from tests.builders import Ledger
from windlass.store.db import connect


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    conn = await connect(database_url, "test")
    yield Ledger(conn)
    await conn.close()
