"""An API for workers to send output to."""

from collections.abc import AsyncIterator

import pytest

from tests.api.serving import Api, serving, settings_for
from windlass.worker import exchange


@pytest.fixture
async def api(database_url: str, redis_url: str, anyio_backend: str) -> AsyncIterator[Api]:
    async with serving(settings_for(database_url, redis_url)) as served:
        yield served


@pytest.fixture(autouse=True)
def _leaders_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaders of these tests answer no beats, and the API there knows none of their attempts."""
    monkeypatch.setattr(exchange, "UNHEARD_S", 60.0)
