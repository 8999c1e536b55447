"""An API that asks for tokens, and tokens of every role for it. One per module, its ledger emptied before each test."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec import structs

from tests.api.conftest import EMPTY, anyio_backend, module_database
from tests.api.serving import Api, serving, settings_for
from tests.conftest import Servers
from windlass.core.access import Role, digest
from windlass.core.ids import NODE, TOKEN, NodeId
from windlass.mint import new_id, new_token
from windlass.settings import Settings
from windlass.store import tokens

__all__ = ["anyio_backend", "module_database"]


@dataclass(frozen=True)
class Guarded:
    """The API, and an admin's token, which is in its file."""

    api: Api
    admin: str
    settings: Settings

    async def ask(self, token: str, method: str, path: str, **more: Any) -> httpx2.Response:
        """A request with this token; the empty text is none."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.api.http.request(method, path, headers=headers | more.pop("headers", {}), **more)

    async def make(self, role: Role, name: str = "", **more: Any) -> str:
        """A fresh token of this role, made by the admin; a node's comes by joining, here straight into the ledger."""
        if role is Role.NODE:
            token = new_token(role)
            node_id = more.get("node_id") or NodeId(new_id(NODE))
            made = (new_id(TOKEN), digest(token), name or "node", role, "test")
            await tokens.add(self.api.ledger.conn, *made, node_id=node_id)
            return token
        answer = await self.ask(self.admin, "POST", "/v1/tokens", json={"name": name or role, "role": role, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    async def records(self, **query: str) -> list[dict[str, Any]]:
        answer = await self.ask(self.admin, "GET", "/v1/audit", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["records"]


def guarded_settings(database_url: str, redis_url: str, folder: Path, **more: Any) -> tuple[Settings, str]:
    """Settings of an API that asks for tokens, and the admin token of its file."""
    admin, found = new_token(Role.ADMIN), settings_for(database_url, redis_url)
    (folder / "admin").write_text(admin + "\n")
    mine = structs.replace(found.api, allow_anonymous=False, admin_token_file=str(folder / "admin"), **more)
    return structs.replace(found, api=mine), admin


@pytest.fixture(scope="module")
async def module_guarded(
    servers: Servers, module_database: str, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("secrets")
    settings, admin = guarded_settings(module_database, servers.valkey_url, folder)
    async with serving(settings) as api:
        yield Guarded(api, admin, settings)


@pytest.fixture
async def guarded(module_guarded: Guarded) -> Guarded:
    """An API that asks for tokens, its ledger empty."""
    await module_guarded.api.ledger.conn.execute(EMPTY)
    module_guarded.api.services.keyring.forget()
    return replace(module_guarded)
