"""The client: one object for one API."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from windlass.client.jobs import Jobs
from windlass.client.models import AuditPage, AuditRecord, Cluster, Node, NodeList, Whoami
from windlass.client.tokens import Tokens
from windlass.client.transport import Params, Transport

DEFAULT_URL = "http://127.0.0.1:8000"


class Nodes:
    """`client.nodes`. Every method raises ApiError and Unreachable."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> list[Node]:
        """All nodes."""
        return self._transport.decode(await self._transport.call("GET", "/v1/nodes", again=True), NodeList).nodes

    async def get(self, node: str) -> Node:
        """One node by id or name; NotFound when there is none."""
        return self._transport.decode(await self._transport.call("GET", _path(node), again=True), Node)

    async def cordon(self, node: str) -> Node:
        """Place nothing more there."""
        return await self._wish(node, "/cordon")

    async def uncordon(self, node: str) -> Node:
        """Place there again; ends a drain."""
        return await self._wish(node, "/uncordon")

    async def drain(self, node: str, deadline: str | float | None = 3600.0) -> Node:
        """Place nothing more there, and stop what still runs at the deadline, in seconds or as "10m"; None: never.

        The node is empty when its `attempts` are 0. What was stopped runs elsewhere and pays no retry for it.
        """
        return await self._wish(node, "/drain", {"deadline": deadline})

    async def forget(self, node: str) -> None:
        """Declare a lost node gone for good, with all that ran there. Raises Conflict while it is not lost."""
        await self._transport.call("POST", _path(node, "/forget"))

    async def _wish(self, node: str, verb: str, body: object = None) -> Node:
        answer = await self._transport.call("POST", _path(node, verb), body=body, again=True)
        return self._transport.decode(answer, Node)


def _path(node: str, verb: str = "") -> str:
    return f"/v1/nodes/{quote(node, safe='')}{verb}"


def token_at_hand() -> str | None:
    """The token of WINDLASS_TOKEN, else of the file WINDLASS_TOKEN_FILE. Raises ValueError when that can't be read."""
    token, path = os.environ.get("WINDLASS_TOKEN"), os.environ.get("WINDLASS_TOKEN_FILE")
    if token or not path:
        return token or None
    try:
        return Path(path).read_text().strip() or None
    except (OSError, UnicodeDecodeError) as fault:
        raise ValueError(f"WINDLASS_TOKEN_FILE {path!r} can't be read: {fault}") from None


class Client:
    """Windlass over HTTP, asynchronous. Use it as a context manager, or close it.

        async with Client() as client:
            job = await client.jobs.create({"image": "ubuntu", "command": ["echo", "hello"]})
            job = await client.jobs.wait(job.id)

    `token` is by default that of WINDLASS_TOKEN or of the file WINDLASS_TOKEN_FILE; `ca_file`, by default
    WINDLASS_CA_FILE, holds the CA that signed the API's certificate where no public one did.

    Times are seconds: `timeout` for the answer to a call (a wait adds its own), `patience` for how long `wait`, `logs`
    and `events`, once begun, ride out an API that is away. Calls that are safe to repeat are, up to `retries` times.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        ca_file: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        patience: float = 60.0,
    ) -> None:
        trust = ca_file or os.environ.get("WINDLASS_CA_FILE") or None
        self._transport = Transport(url, token or token_at_hand(), trust, timeout, retries, patience)
        self.url = url
        self.jobs = Jobs(self._transport)
        self.nodes = Nodes(self._transport)
        self.tokens = Tokens(self._transport)

    async def cluster(self) -> Cluster:
        """Who leads and who stands by, how many nodes and jobs there are, and whether Redis serves."""
        return self._transport.decode(await self._transport.call("GET", "/v1/cluster", again=True), Cluster)

    async def whoami(self) -> Whoami:
        """Whose token this client sends, and what its role is."""
        return self._transport.decode(await self._transport.call("GET", "/v1/whoami", again=True), Whoami)

    async def audit(
        self, *, who: str | None = None, action: str | None = None, target: str | None = None, limit: int = 100
    ) -> list[AuditRecord]:
        """Up to `limit` changes, newest first; by this token's name, of this operation, of this thing."""
        wanted = {"who": who, "action": action, "target": target}
        found: list[AuditRecord] = []
        cursor: int | None = None
        while len(found) < limit:
            params: Params = [(key, value) for key, value in wanted.items() if value is not None]
            params += [("limit", min(limit - len(found), 1000))] + ([("cursor", cursor)] if cursor is not None else [])
            answer = await self._transport.call("GET", "/v1/audit", params=params, again=True)
            page = self._transport.decode(answer, AuditPage)
            found, cursor = found + page.records, page.next_cursor
            if cursor is None:
                break
        return found

    async def version(self) -> dict[str, Any]:
        """What the server says of its version."""
        return self._transport.decode(await self._transport.call("GET", "/version", again=True), dict[str, Any])

    async def close(self) -> None:
        """Let go of the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
