"""Prune: delete jobs whose ttl_after_finished has passed."""

from windlass.scheduler.desk import Desk
from windlass.store import jobs


async def run_once(desk: Desk) -> int:
    """Delete a batch; returns how many."""
    ids = await jobs.expired(desk.conn, now=desk.picture.now())
    return len(await jobs.delete(desk.conn, ids, term=desk.term)) if ids else 0
