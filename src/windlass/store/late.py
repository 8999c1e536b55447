"""Late reports: what a node says of an attempt that was lost meanwhile. Kept once, with a word in the log; of the task
and the attempt's outcome nothing moves."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from windlass.core.ids import JobId
from windlass.core.task import Attempt
from windlass.store import fence
from windlass.store.db import Conn

NOTE_LATE = f"""
WITH {fence.FENCE},
asked AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(notes)s::json) AS s (id text, job_id text, late text, data json)
),
noted AS (
    UPDATE attempts a SET late = s.late FROM asked s
    WHERE a.id = s.id AND a.late IS NULL AND a.state = 'lost' AND EXISTS (SELECT FROM fence) RETURNING a.id
),
told AS (
    INSERT INTO events (job_id, type, data)
    SELECT s.job_id, 'job.late_report', s.data FROM asked s JOIN noted USING (id)
)
SELECT (SELECT term FROM fence), (SELECT count(*) FROM noted)
"""


@dataclass(frozen=True, slots=True)
class Late:
    """What a node said of a lost attempt after the fact, and of which job it was."""

    attempt: Attempt
    job_id: JobId
    text: str


async def note(conn: Conn, notes: Sequence[Late], *, term: int) -> int:
    """Write down late reports; returns how many were news. Raises Fenced, Unavailable."""
    rows = [
        {
            "id": one.attempt.id,
            "job_id": one.job_id,
            "late": one.text,
            "data": {
                "attempt": one.attempt.number,
                "attempt_id": one.attempt.id,
                "node": one.attempt.node_name,
                "message": one.text,
            },
        }
        for one in notes
    ]
    _, news = await fence.write(conn, NOTE_LATE, {"notes": msgspec.json.encode(rows).decode()}, term)
    return news
