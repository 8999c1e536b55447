"""Ship: outbox rows whose commands were not sent yet: the API's, a former leader's, or ours while Redis was down."""

import structlog

from windlass.core.ids import AttemptId
from windlass.scheduler.desk import Desk, order_again
from windlass.store import outbox, tasks

log = structlog.get_logger("scheduler")


async def run_once(desk: Desk, age_s: float) -> int:
    """Queue the commands of rows at least age_s old for the next send; returns how many rows."""
    rows = await outbox.unsent(desk.conn, age_s)
    if not rows:
        return 0
    if any(row.stuck for row in rows):
        log.info("repair", kind="outbox_stuck", count=sum(row.stuck for row in rows))
    wanted: list[AttemptId] = [a for row in rows for a in (*row.launch, *row.stop)]
    found = await tasks.by_attempt(desk.conn, wanted)
    now = desk.picture.now()
    for attempt_id in dict.fromkeys(wanted):
        live = found.get(attempt_id)
        if live is None:
            continue
        desk.picture.refresh(live)
        order = order_again(live, now)
        if order is not None and live.attempt is not None:
            desk.commands[live.attempt.node_id].append(order)
    desk.adopt([row.id for row in rows])
    return len(rows)
