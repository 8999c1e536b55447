"""Expire and wake: time limits and ends of backoff that have fallen due."""

from windlass.core.events import Due
from windlass.core.task import Step
from windlass.scheduler.desk import Desk
from windlass.store import tasks

BATCH = 500


async def run_once(desk: Desk) -> int:
    """Let what is due happen; returns how many tasks moved, and notes when the next limit falls."""
    picture = desk.picture
    rows, others = await tasks.due(desk.conn, BATCH, picture.now())
    steps: list[Step] = []
    now = picture.now()
    for one in rows:
        result = desk.step(one, Due(), now)
        if isinstance(result, Step):
            steps.append(result)
    await desk.park(others)
    left = await desk.write(steps, {one.task.id: one.spec_text for one in rows}) if steps else []
    ahead = await tasks.next_due(desk.conn, picture.now())
    if ahead is None:
        picture.next_due = float("inf")
    else:
        # Never sooner than a moment from now: a row whose limit the step did not find due must not spin the loop.
        picture.next_due = picture.now() + max(ahead, 0.05)
    return len(steps) - len(left)
