"""Tokens: made, looked up by their hash, revoked; and how a node joins with one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from windlass.core.access import Role
from windlass.core.ids import NodeId
from windlass.store.db import Conn

_COLUMNS = "id, name, role, node_id, uses_left, created_by, created_at, expires_at, revoked_at, last_used_at"
FIND = f"SELECT {_COLUMNS}, now() FROM tokens WHERE hash = %(hash)s"
ADD = f"""
INSERT INTO tokens (id, hash, name, role, node_id, uses_left, created_by, expires_at)
VALUES (%(id)s, %(hash)s, %(name)s, %(role)s, %(node_id)s, %(uses)s, %(by)s,
    now() + %(expires_in)s::float8 * interval '1 second')
RETURNING {_COLUMNS}
"""
EVERY = f"SELECT {_COLUMNS} FROM tokens ORDER BY id DESC LIMIT %(limit)s"
#: By id, or by name: of several of one name all. One that is revoked already stays as it is.
REVOKE = f"""
UPDATE tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = %(key)s OR name = %(key)s AND revoked_at IS NULL
RETURNING {_COLUMNS}
"""
#: Not oftener than this writes it, however many processes use it.
USED = """
UPDATE tokens SET last_used_at = now() WHERE id = ANY(%(ids)s)
    AND (last_used_at IS NULL OR last_used_at < now() - interval '30 s')
"""
SPEND = """
UPDATE tokens SET uses_left = uses_left - 1 WHERE id = %(id)s AND (uses_left IS NULL OR uses_left > 0)
    AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING id
"""
OF_NODE = "SELECT id, hash FROM tokens WHERE node_id = %(node_id)s AND revoked_at IS NULL FOR UPDATE"
#: Whether another node runs one of these attempts.
OTHERS = "SELECT EXISTS (SELECT FROM attempts WHERE id = ANY(%(ids)s) AND node_id <> %(node_id)s)"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it may be shown."""

    id: str
    name: str
    role: Role
    node_id: NodeId | None
    uses_left: int | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Found:
    """A token that was looked up, and the moment of that, by the clock its own moments are by."""

    token: Token
    now: datetime


def _token(row: Sequence[Any]) -> Token:
    return Token(row[0], row[1], Role(row[2]), *row[3:10])


async def find(conn: Conn, digest: bytes) -> Found | None:
    """The token of this hash."""
    row = await (await conn.execute(FIND, {"hash": digest})).fetchone()
    return None if row is None else Found(_token(row), row[10])


async def add(
    conn: Conn,
    token_id: str,
    digest: bytes,
    name: str,
    role: Role,
    by: str,
    *,
    expires_in_s: float | None = None,
    uses: int | None = None,
    node_id: NodeId | None = None,
) -> Token:
    """Make a token known."""
    values = {
        "id": token_id,
        "hash": digest,
        "name": name,
        "role": role,
        "node_id": node_id,
        "uses": uses,
        "by": by,
        "expires_in": expires_in_s,
    }
    row = await (await conn.execute(ADD, values)).fetchone()
    assert row is not None
    return _token(row)


async def every(conn: Conn, limit: int = 1000) -> list[Token]:
    """All tokens, newest first."""
    return [_token(row) for row in await (await conn.execute(EVERY, {"limit": limit})).fetchall()]


async def revoke(conn: Conn, key: str) -> list[Token]:
    """Revoke the token of this id, or those of this name that are not yet; returns them."""
    return [_token(row) for row in await (await conn.execute(REVOKE, {"key": key})).fetchall()]


async def used(conn: Conn, ids: Sequence[str]) -> None:
    """These were used just now."""
    await conn.execute(USED, {"ids": list(ids)})


async def spend(conn: Conn, token_id: str) -> bool:
    """Take one of a join token's uses; whether there was one."""
    return await (await conn.execute(SPEND, {"id": token_id})).fetchone() is not None


async def of_node(conn: Conn, node_id: NodeId) -> tuple[str, bytes] | None:
    """The id and hash of a node's token that counts, locked against another join of the same node."""
    row = await (await conn.execute(OF_NODE, {"node_id": node_id})).fetchone()
    return None if row is None else (row[0], bytes(row[1]))


async def of_others(conn: Conn, attempt_ids: Sequence[str], node_id: NodeId) -> bool:
    """Whether any of these attempts is another node's."""
    row = await (await conn.execute(OTHERS, {"ids": list(attempt_ids), "node_id": node_id})).fetchone()
    return row is not None and row[0]
