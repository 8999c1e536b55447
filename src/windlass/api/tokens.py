"""Tokens: made, listed, revoked by admins; and who one is."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from windlass.api import access
from windlass.api.access import changing
from windlass.api.answers import failures, reply
from windlass.api.deps import Means, body
from windlass.api.schemas import moment
from windlass.core.access import LADDER, Role, digest
from windlass.core.ids import TOKEN
from windlass.core.quantity import parse_duration
from windlass.core.spec import FieldError
from windlass.errors import NotFound, SpecError
from windlass.mint import new_id, new_token
from windlass.store import tokens
from windlass.store.db import borrow

router = APIRouter(prefix="/v1", tags=["access"])

NAME_LIMIT = 63
#: A join token is for now, unless somebody says otherwise.
JOIN_EXPIRES_S = 86_400.0
MADE = (*LADDER, Role.JOIN)


class Whoami(BaseModel):
    """Who a token makes one."""

    name: str = Field(examples=["ci"])
    role: Role = Field(examples=["submitter"])
    token_id: str | None = Field(description="Null without a token, and for the one of a file.")
    anonymous: bool = Field(description="Nobody needs a token here.")


class TokenInfo(BaseModel):
    """A token as it may be shown: without itself."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(examples=["tok_01m84h7zs6ehdr80hd3b355n33"])
    name: str = Field(examples=["ci"])
    role: Role
    node: str | None = Field(description="Of a node's token: the node's id.")
    uses_left: int | None = Field(description="Of a join token: how many nodes may still join; null: any number.")
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None = Field(description="To about a minute.")


class NewToken(TokenInfo):
    """A token that was just made."""

    token: str = Field(description="The token itself. It is shown this once, and kept nowhere.")


class TokenList(BaseModel):
    """Tokens, newest first."""

    tokens: list[TokenInfo]


_WANTED: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "role"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": NAME_LIMIT, "pattern": "^[^\\u0000-\\u001f\\u007f]+$"},
        "role": {"enum": [role.value for role in MADE]},
        "expires_in": {
            "type": ["string", "number", "null"],
            "examples": ["90d", 3600],
            "description": "After this it opens nothing; null: never. Default: never, and a day for a join token.",
        },
        "uses": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 100000,
            "default": 1,
            "description": "Of a join token: how many nodes may join with it; null: any number.",
        },
    },
}


@router.get(
    "/whoami", operation_id="whoami", summary="Who am I?", response_model=Whoami, responses=failures()
)  # fmt: skip
async def whoami(services: Means) -> Response:
    """Whose token came with this request."""
    me = access.caller()
    found = {"name": me.name, "role": me.role, "token_id": me.token_id, "anonymous": services.anonymous}
    return reply(found)


@router.post(
    "/tokens",
    status_code=201,
    operation_id="create_token",
    summary="Make a token",
    response_model=NewToken,
    responses=failures(400, 413, 415, 422),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _WANTED}}}},
)
async def create_token(request: Request, services: Means) -> Response:
    """The token is in the answer, this once: only its hash is kept. A node's own token is made when it joins."""
    name, role, expires_in_s, uses = _wanted(await body(request))
    token, token_id = new_token(role), new_id(TOKEN)
    async with changing(services) as conn:
        mine = access.by().who
        made = await tokens.add(
            conn, token_id, digest(token), name, role, mine, expires_in_s=expires_in_s, uses=uses
        )  # fmt: skip
        await access.note(conn, made.id, name=name, role=role, expires_in_s=expires_in_s, uses=uses)
    return reply(_shown(made) | {"token": token}, 201, {"Cache-Control": "no-store"})


@router.get(
    "/tokens", operation_id="list_tokens", summary="List tokens", response_model=TokenList, responses=failures()
)  # fmt: skip
async def list_tokens(services: Means) -> Response:
    """The newest thousand, with those that were revoked or have expired. Tokens of files are not among them."""
    async with borrow(services.pool) as conn:
        found = await tokens.every(conn)
    return reply({"tokens": [_shown(token) for token in found]})


@router.delete(
    "/tokens/{token}",
    status_code=204,
    operation_id="revoke_token",
    summary="Revoke a token",
    response_class=Response,
    responses=failures(404),
)
async def revoke_token(
    services: Means, token: Annotated[str, Path(description="A token's id or name.", examples=["ci"])]
) -> Response:
    """By its id, or all of a name. It opens nothing any more: on this API process at once, on others within 5 s. With a
    node's token goes the node's user in Redis."""
    async with changing(services) as conn:
        gone = await tokens.revoke(conn, token.replace("\0", ""))
        for one in gone:
            await access.note(conn, one.id, name=one.name, role=one.role)
    if not gone:
        raise NotFound("token", token[:80])
    services.keyring.forget()
    for one in gone:
        if one.node_id is not None:
            services.doorkeeper.shut_out(one.node_id)
    return Response(status_code=204)


def _shown(token: tokens.Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "node": token.node_id,
        "uses_left": token.uses_left,
        "created_by": token.created_by,
        "created_at": moment(token.created_at),
        "expires_at": moment(token.expires_at),
        "revoked_at": moment(token.revoked_at),
        "last_used_at": moment(token.last_used_at),
    }


def _wanted(raw: object) -> tuple[str, Role, float | None, int | None]:
    """Name, role, seconds until it expires, uses. Raises SpecError with every fault."""
    given = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    faults = [FieldError(name[:80], "is not a field of a token") for name in given if name not in _WANTED["properties"]]
    name, asked = given.get("name"), given.get("role")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
        faults.append(FieldError("name", f"must be a text of 1 to {NAME_LIMIT} characters", str(name)[:80]))
    if asked not in MADE:
        faults.append(FieldError("role", f"must be one of {', '.join(MADE)}", str(asked)[:80]))
    join = asked == Role.JOIN
    expires_in_s = JOIN_EXPIRES_S if join else None
    if given.get("expires_in", expires_in_s) != expires_in_s:
        try:
            expires_in_s = None if given["expires_in"] is None else parse_duration(given["expires_in"])
            if expires_in_s == 0:
                raise ValueError("must be more than 0")
        except ValueError as fault:
            faults.append(FieldError("expires_in", str(fault), str(given["expires_in"])[:80]))
    uses = given.get("uses", 1 if join else None)
    if uses is not None and not (join and type(uses) is int and 1 <= uses <= 100_000):
        faults.append(FieldError("uses", "is for join tokens, and a number from 1 to 100000", str(uses)[:80]))
    if faults:
        raise SpecError(faults)
    return cast("str", name), Role(cast("str", asked)), expires_in_s, uses
