"""The HTTP client of worker and SDK: whatever goes wrong with a connection is an httpx2.HTTPError."""

from typing import Any

import httpx2


class HttpClient(httpx2.AsyncClient):
    """An AsyncClient. A connection that is reset in the very moment it is made has no peer any more, which the
    libraries below notice as an AttributeError; a worker must not die of that."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send the request. Raises httpx2.HTTPError."""
        try:
            return await super().send(request, **options)
        except AttributeError as fault:
            raise httpx2.ConnectError(f"reset as it was made: {fault}", request=request) from fault
