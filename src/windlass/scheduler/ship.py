"""Ship: outbox rows whose commands were not sent yet: the API's, a former leader's, or ours while Redis was down.

While the stream takes nothing, workers fetch what they need from the ledger; then only those rows are cleared away
whose commands nobody needs any more.
"""

from windlass import metrics
from windlass.core.ids import AttemptId, NodeId
from windlass.repairs import repaired
from windlass.scheduler.desk import Desk
from windlass.store import outbox, tasks
from windlass.stream import wire
from windlass.stream.orders import order_again

#: A row this old in the outbox was forgotten by whoever wrote it.
STUCK_S = 2.0


async def run_once(desk: Desk, age_s: float) -> int:
    """Queue the commands of rows at least age_s old for the next send; returns how many rows."""
    rows = [row for row in await outbox.unsent(desk.conn, age_s) if not desk.shipping(row.id)]
    if not rows:
        return 0
    orders = await _orders(desk, list(dict.fromkeys(a for row in rows for a in (*row.launch, *row.stop))))
    needed = [row.id for row in rows if not orders.keys().isdisjoint((*row.launch, *row.stop))]
    desk.sent.extend({row.id for row in rows} - set(needed))
    if desk.producer.down:
        return 0
    for node_id, order in orders.values():
        desk.commands[node_id].append(order)
    desk.adopt(needed)
    if age_s >= STUCK_S:
        repaired(metrics.OUTBOX_STUCK, len(needed))
    return len(rows)


async def _orders(desk: Desk, wanted: list[AttemptId]) -> dict[AttemptId, tuple[NodeId, wire.CommandOut]]:
    """What still must be said of these attempts, and to whom."""
    found, others = await tasks.by_attempt(desk.conn, wanted)
    desk.picture.leave_alone(others)
    now = desk.picture.now()
    orders: dict[AttemptId, tuple[NodeId, wire.CommandOut]] = {}
    for attempt_id, live in found.items():
        desk.picture.refresh(live)
        order = order_again(live.task, live.attempt, live.spec_text, now)
        if order is not None and live.attempt is not None:
            orders[attempt_id] = (live.attempt.node_id, order)
    return orders
