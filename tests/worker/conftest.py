"""An API for workers to send output to."""

from collections.abc import AsyncIterator

import pytest

from tests.api.serving import Api, serving, settings_for


@pytest.fixture
async def api(database_url: str, redis_url: str, anyio_backend: str) -> AsyncIterator[Api]:
    async with serving(settings_for(database_url, redis_url)) as served:
        yield served
