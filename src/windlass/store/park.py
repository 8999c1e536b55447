"""Parking: a task this version cannot read, or not move, waits apart, out of everybody's way. Nothing of it is lost:
whoever can read it goes on with it.
"""

from collections.abc import Sequence

import msgspec

from windlass.core.ids import TaskId
from windlass.core.states import TaskState
from windlass.store import fence
from windlass.store.db import Conn
from windlass.store.tasks import Unread

#: What was in line leaves it, gets the reason, and is looked at again at the given moment. Of what does not wait for a
#: node nothing changes, save that a limit which falls before that moment is looked at then. What is `news` is told.
PARK = f"""
WITH {fence.FENCE},
asked AS MATERIALIZED (
    SELECT *, to_timestamp(%(until)s::float8) AS until
    FROM json_to_recordset(%(rows)s::json) AS s (id text, base integer, reason text, news boolean)
),
parked AS (
    UPDATE tasks t SET version = t.version + 1, state = 'backoff', reason = s.reason, wake_at = s.until,
        not_before = greatest(t.not_before, s.until)
    FROM asked s WHERE t.id = s.id AND t.version = s.base AND t.state IN ('queued', 'backoff')
        AND EXISTS (SELECT FROM fence)
    RETURNING t.id, t.job_id, s.reason, s.news
),
later AS (
    UPDATE tasks t SET version = t.version + 1, wake_at = s.until
    FROM asked s WHERE t.id = s.id AND t.version = s.base AND t.state NOT IN ('queued', 'backoff')
        AND t.wake_at < s.until AND EXISTS (SELECT FROM fence)
),
told AS (
    INSERT INTO events (job_id, type, data)
    SELECT job_id, 'job.parked', json_build_object('message', reason) FROM parked WHERE news
)
SELECT (SELECT term FROM fence), (SELECT array_agg(id) FROM parked WHERE news)
"""


async def put(conn: Conn, unread: Sequence[Unread], until: float, *, term: int) -> frozenset[TaskId]:
    """Leave these until then (database seconds); returns those of which that is news. Raises Fenced, Unavailable."""
    rows = [{"id": one.task_id, "base": one.version, "reason": one.why, "news": _news(one)} for one in unread]
    values = {"rows": msgspec.json.encode(rows).decode(), "until": until}
    _, news = await fence.write(conn, PARK, values, term)
    return frozenset(news or ())


def _news(one: Unread) -> bool:
    return one.state == TaskState.QUEUED or one.reason != one.why
