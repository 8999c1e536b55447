"""Drain: what operators want of nodes becomes true. Cordons and drains enter the picture; past a drain's deadline what
still runs there is stopped, free of charge; what ran on a node that an operator declared gone is given up.

All of it is read from the ledger, so a lost bell, or a change of leaders, costs a second.
"""

from collections.abc import Collection
from dataclasses import replace

import structlog

from windlass.core import events
from windlass.core.ids import NodeId
from windlass.scheduler.desk import Desk
from windlass.scheduler.ingest import Fact, advance
from windlass.store import nodes

log = structlog.get_logger("scheduler")


async def run_once(desk: Desk) -> int:
    """Take up what operators asked for; returns how many attempts moved."""
    wishes = await nodes.wishes(desk.conn)
    picture = desk.picture
    for node_id, wish in wishes.items():
        node = picture.nodes.get(node_id)
        if node is not None and (node.cordoned, node.draining) != (wish.cordoned, wish.draining):
            log.info("node_wish", node_id=node_id, node=node.name, cordoned=wish.cordoned, draining=wish.draining)
            picture.nodes[node_id] = replace(node, cordoned=wish.cordoned, draining=wish.draining)
    await _give_up(desk, wishes.keys())
    over = [a for node_id, wish in wishes.items() if wish.due for a in picture.by_node[node_id]]
    return await advance(desk, [(attempt_id, events.DrainDue(), None) for attempt_id in over])


async def _give_up(desk: Desk, known: Collection[NodeId]) -> None:
    """Nodes an operator declared gone are forgotten here too; all that ran there is lost, exclusive or not."""
    picture = desk.picture
    lost: list[Fact] = []
    for node_id in (picture.nodes.keys() | picture.by_node.keys()) - set(known):
        node = picture.nodes.pop(node_id, None)
        picture.heard.pop(node_id, None)
        attempts = list(picture.by_node.get(node_id, ()))
        if node is not None or attempts:
            log.warning("node_forgotten", node_id=node_id, attempts=len(attempts))
        lost += [(attempt_id, events.NodeLost(gone=True), None) for attempt_id in attempts]
    await advance(desk, lost)
