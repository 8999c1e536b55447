"""Who may do what: the least role of every route, in one table, and the guard that each request passes.

A route that is not in the table is open to nobody. Beyond a route's role there is one more rule: a node's token speaks
for its own node alone (api/internal.py).
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException

from windlass.api import problems
from windlass.api.answers import failures
from windlass.api.deps import Services
from windlass.api.keyring import ANYBODY, Caller, Refused
from windlass.core.access import Role, may
from windlass.store import audit
from windlass.store.audit import By
from windlass.store.db import Conn, borrow

#: No token is needed.
ANYONE = None
VIEWER, SUBMITTER, OPERATOR, ADMIN = Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN
#: The least role of every operation.
LEAST: Mapping[str, Role | None] = {
    "livez": ANYONE, "readyz": ANYONE, "version": ANYONE, "manual": ANYONE, "asset": ANYONE,
    "whoami": VIEWER, "metrics": VIEWER, "get_cluster": VIEWER, "get_scaling": VIEWER, "list_nodes": VIEWER,
    "get_node": VIEWER,
    "list_jobs": VIEWER, "get_job": VIEWER, "get_logs": VIEWER, "get_job_events": VIEWER, "watch_events": VIEWER,
    "submit_job": SUBMITTER, "submit_jobs": SUBMITTER, "cancel_job": SUBMITTER, "retry_job": SUBMITTER,
    "delete_job": OPERATOR, "cordon_node": OPERATOR, "uncordon_node": OPERATOR, "drain_node": OPERATOR,
    "forget_node": OPERATOR, "list_audit": OPERATOR,
    "create_token": ADMIN, "list_tokens": ADMIN, "revoke_token": ADMIN,
    "join": Role.JOIN,
    "append": Role.NODE, "stored": Role.NODE, "exchange": Role.NODE, "redis_access": Role.NODE,
}  # fmt: skip
#: The one page that is no operation: open to anyone, for it tells what every copy of the software tells.
PAGES = frozenset({"/openapi.json"})
SCHEME = {"token": {"type": "http", "scheme": "bearer", "description": "A token: `windlass token create`."}}
HOW = "send the header `Authorization: Bearer TOKEN`; the CLI takes it from WINDLASS_TOKEN or WINDLASS_TOKEN_FILE"

_now: ContextVar[tuple[Caller, str, str]] = ContextVar("access", default=(ANYBODY, "", ""))


async def guard(request: Request) -> None:
    """Lets a request pass whose token has the route's role. Raises HTTPException 401 and 403, Unavailable."""
    name: str = request.scope["route"].name
    least = LEAST[name]
    if least is None:
        return
    services: Services = request.app.state.services
    token = _token(request)
    caller = await _caller(services, token)
    _now.set((caller, name, token))
    if not services.anonymous and not may(caller.role, least):
        mine = f"the token {caller.name!r}" + (f" ({caller.token_id})" if caller.token_id else "")
        raise HTTPException(403, f"{mine} has the role {caller.role}, and {name} needs {_needs(least)}")


def _token(request: Request) -> str:
    """The token that came along; the empty text when none did."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _caller(services: Services, token: str) -> Caller:
    if not token and not services.anonymous:
        raise _unknown(f"this needs a token: {HOW}")
    if not token:
        return ANYBODY
    try:
        return await services.keyring.caller(token)
    except Refused as why:
        if services.anonymous:
            return ANYBODY
        raise _unknown(str(why)) from None


def _unknown(why: str) -> HTTPException:
    return HTTPException(401, why, {"WWW-Authenticate": 'Bearer realm="windlass"'})


def _needs(least: Role) -> str:
    if least is Role.JOIN:
        return "a join token: `windlass token create --join`"
    if least is Role.NODE:
        return "the token of a node, which a worker gets when it joins"
    return f"{least}: have an admin make one with `windlass token create --role {least}`"


async def holds(services: Services) -> bool:
    """Whether the caller's token still counts: what follows something asks this again and again."""
    _, _, token = _now.get()
    if not token or services.anonymous:
        return True
    try:
        await services.keyring.caller(token)
    except Refused:
        return False
    return True


def caller() -> Caller:
    """Who makes this request."""
    return _now.get()[0]


def by() -> By:
    """Who makes this request's changes, for the record of them."""
    who, action, _ = _now.get()
    return By(who.token_id, who.name, who.role, problems.request_id.get(), action)


@asynccontextmanager
async def changing(services: Services) -> AsyncGenerator[Conn]:
    """A connection on which a change and the record of it are one transaction. Raises Unavailable."""
    async with borrow(services.pool) as conn, conn.transaction():
        yield conn


async def note(conn: Conn, target: str, **detail: Any) -> None:
    """Record what this request changes."""
    await audit.note(conn, by(), target, detail or None)


def describe(document: dict[str, Any]) -> None:
    """Say in the OpenAPI document who may do what."""
    document["components"]["securitySchemes"] = SCHEME
    for operation in [o for path in document["paths"].values() for o in path.values()]:
        least = LEAST[operation["operationId"]]
        operation["security"] = [] if least is None else [{"token": []}]
        if least is not None:
            operation["x-least-role"] = least
            operation["responses"] |= {str(k): v for k, v in failures(401, 403).items() if k != 503}
