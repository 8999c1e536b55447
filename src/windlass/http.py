"""The HTTP client of worker and SDK: whatever goes wrong with a connection is an httpx2.HTTPError."""

import ssl
from typing import Any

import httpx2


def trusting(ca_file: str) -> ssl.SSLContext:
    """TLS with servers whose certificate this CA signed. Raises ValueError when the file can't be used."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as fault:
        raise ValueError(f"the CA file {ca_file!r} can't be used: {fault}") from None


class HttpClient(httpx2.AsyncClient):
    """An AsyncClient. A connection that is reset in the very moment it is made has no peer any more, which the
    libraries below notice as an AttributeError; a worker must not die of that."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send the request. Raises httpx2.HTTPError."""
        try:
            return await super().send(request, **options)
        except AttributeError as fault:
            raise httpx2.ConnectError(f"reset as it was made: {fault}", request=request) from fault
