"""The record of changes, for operators."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from windlass.api.answers import failures, reply
from windlass.api.deps import Means
from windlass.api.schemas import moment
from windlass.store import audit
from windlass.store.db import borrow

router = APIRouter(prefix="/v1", tags=["access"])

PAGE_LIMIT = 1000
Word = Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00]*$")]


class AuditRecord(BaseModel):
    """One change, and who made it."""

    id: int
    at: str
    who: str = Field(examples=["ci"], description="The token's name.")
    role: str
    token_id: str | None
    request_id: str
    action: str = Field(examples=["cancel_job"], description="The operation.")
    target: str = Field(examples=["job_01m84h7zs6ehdr80hd3b355n33"])
    detail: dict[str, Any] | None


class AuditList(BaseModel):
    """One page of records, newest first."""

    records: list[AuditRecord]
    next_cursor: int | None


@router.get(
    "/audit", operation_id="list_audit", summary="Who changed what", response_model=AuditList, responses=failures(422)
)  # fmt: skip
async def list_audit(
    services: Means,
    who: Word = None,
    action: Word = None,
    target: Word = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
    cursor: Annotated[int | None, Query(ge=0, lt=2**63, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Changes people and programs made, newest first. Each was recorded in the transaction that made it."""
    async with borrow(services.pool) as conn:
        found = await audit.page(conn, limit + 1, cursor, who=who, action=action, target=target)
    more, found = len(found) > limit, found[:limit]
    return reply({"records": [_shown(record) for record in found], "next_cursor": found[-1].id if more else None})


def _shown(record: audit.Record) -> dict[str, Any]:
    by = record.by
    return {
        "id": record.id,
        "at": moment(record.at),
        "who": by.who,
        "role": by.role,
        "token_id": by.token_id,
        "request_id": by.request_id,
        "action": by.action,
        "target": record.target,
        "detail": record.detail,
    }
