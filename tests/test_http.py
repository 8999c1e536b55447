"""What the HTTP client makes of connections that go wrong."""

import httpx2
import pytest

from windlass.client import Client, Unreachable
from windlass.http import HttpClient


def no_peer(request: httpx2.Request) -> httpx2.Response:
    """What a connection that was reset as it was made ends in, below httpx2."""
    None.getpeername()  # type: ignore[attr-defined]
    raise AssertionError


async def test_a_connection_reset_as_it_is_made_is_a_transport_error() -> None:
    async with HttpClient(transport=httpx2.MockTransport(no_peer)) as http:
        with pytest.raises(httpx2.TransportError, match="getpeername"):
            await http.get("http://127.0.0.1:1/")


async def test_the_client_says_that_the_api_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reset(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        return no_peer(request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", reset)
    async with Client("http://127.0.0.1:1", retries=0) as client:
        with pytest.raises(Unreachable):
            await client.nodes.list()
