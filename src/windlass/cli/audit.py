"""`windlass audit`: who changed what."""

from typing import Annotated

import typer

from windlass.cli.exits import Code
from windlass.cli.options import Format, Out, Url
from windlass.cli.render import View, emit
from windlass.cli.session import connect, go
from windlass.client import AuditRecord

RECORDS: View[AuditRecord] = View(
    ("AT", "WHO", "ROLE", "ACTION", "TARGET", "REQUEST"),
    lambda one: (f"{one.at:%Y-%m-%d %H:%M:%S}", one.who, one.role, one.action, one.target, one.request_id),
    lambda one: str(one.id),
)


def audit(
    who: Annotated[str | None, typer.Option(help="Only of this token's name.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this operation, such as cancel_job.")] = None,
    target: Annotated[str | None, typer.Option(help="Only of this job, node or token, by its id.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 50,
    output: Out = Format.TABLE,
    url: Url = None,
) -> int:
    """Show who changed what, newest first. Needs the role operator."""

    async def work() -> int:
        async with connect(url) as client:
            found = await client.audit(who=who, action=action, target=target, limit=limit)
        emit(found, RECORDS, output)
        return Code.OK

    return go(work())
