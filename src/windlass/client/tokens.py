"""Tokens over HTTP, for admins."""

from urllib.parse import quote

from windlass.client.models import NewToken, Token, TokenList
from windlass.client.transport import Transport


class Tokens:
    """`client.tokens`. Every method raises ApiError and Unreachable; all but `list` change who may do what."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, name: str, role: str, *, expires_in: str | float | None = None) -> NewToken:
        """A token of the role viewer, submitter, operator or admin, that ends after seconds or as "90d"; None: never.
        Its `token` is shown this once."""
        return await self._create({"name": name, "role": role, "expires_in": expires_in})

    async def create_join(
        self, name: str, *, uses: int | None = 1, expires_in: str | float | None = 86_400.0
    ) -> NewToken:
        """A token that so many workers may join with; None: any number."""
        return await self._create({"name": name, "role": "join", "uses": uses, "expires_in": expires_in})

    async def _create(self, body: dict[str, object]) -> NewToken:
        return self._transport.decode(await self._transport.call("POST", "/v1/tokens", body=body), NewToken)

    async def list(self) -> list[Token]:
        """All tokens, newest first, with those that open nothing any more."""
        return self._transport.decode(await self._transport.call("GET", "/v1/tokens", again=True), TokenList).tokens

    async def revoke(self, token: str) -> None:
        """The token of this id, or all of this name: within five seconds they open nothing. Raises NotFound."""
        await self._transport.call("DELETE", f"/v1/tokens/{quote(token, safe='')}", again=True)
