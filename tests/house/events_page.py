"""docs/reference/events.md: every event of the log with what it carries, found by giving `step` everything."""

import itertools
import re
from pathlib import Path

import windlass.store
from tests.house.states_page import EVENTS, LATER, situations
from windlass.core.attempt import step
from windlass.core.events import Exited
from windlass.core.states import Cause
from windlass.core.task import Step

WORDS = {
    "job.submitted": "it was accepted: from here on it is not lost",
    "job.placed": "the leader gave it to a node",
    "job.started": "it runs: its container or process began",
    "job.stopping": "its attempt was told to stop, for the cause that is named",
    "job.backoff": "its attempt failed, and another follows after `delay_s` seconds",
    "job.parked": "the leader could not read or move it: it waits apart, and is looked at again each minute",
    "job.queued": "it waits for a node again: `by` says why where no attempt ended, else the attempt's end is told",
    "job.cancel_requested": "somebody wished that it ends",
    "job.succeeded": "over: an attempt ended well",
    "job.failed": "over: budget or time limit spent; `cause` says which",
    "job.cancelled": "over: by a wish, and proven gone",
    "job.late_report": "a node told of the end of an attempt that was lost meanwhile; it changed nothing",
    "job.deleted": "it was forgotten with its output: removed by a user, or its time to live was over",
}
FIELDS = {
    "attempt": "number of the attempt, from 1",
    "attempt_id": "its id",
    "node": "name of its node",
    "outcome": "how the attempt ended: a terminal [state](states.md#attempt)",
    "cause": "why it did not succeed: a [cause](states.md#cause)",
    "message": "the same in words",
    "exit_code": "the command's exit code, where one is known",
    "delay_s": "seconds until the next attempt may be placed",
    "by": "`request`: a user's retry; `start`: its `not_before` has come; `backoff`: the delay is over",
}

_HEAD = """\
# Events

Made from the code by `make docs`; a test keeps it current. Whatever happens to a job is written into one log, in the
transaction that made it happen. `GET /v1/jobs/{id}/events` tells a job's story, `GET /v1/events` streams all of it
([how to read it](../how-to/http.md#follow-events)).

```json
{"cursor": "812-4471", "at": "2026-11-23T12:00:00.142Z", "job_id": "job_01m84h7zs6ehdr80hd3b355n33",
 "type": "job.started", "data": {"attempt": 1, "attempt_id": "att_01m84h80b3e7vrc3p9vq8ycjxn", "node": "atlas"}}
```

Each event is told once per connection, in an order every reader agrees on. `cursor` is the place to go on from, and the
`id` of a server-sent event. Readers skip types they do not know: a minor version may add some.
"""

#: what the ledger's own statements write
_IN_SQL = re.compile(r"'(job\.[a-z_]+)'")


def found() -> dict[str, set[str]]:
    """Every type of event, with the fields it may carry."""
    types: dict[str, set[str]] = {"job.submitted": set(), "job.deleted": set()}
    happens = [event for _, event in EVENTS] + [Exited(LATER, None, 0), Exited(LATER, Cause.EXIT_CODE, 1)]
    for (task, attempt), event in itertools.product(situations(), happens):
        result = step(task, attempt, event, LATER)
        for record in result.records if isinstance(result, Step) else ():
            types.setdefault(record.type, set()).update(record.data)
    late = Path(windlass.store.__path__[0], "late.py").read_text()
    types["job.late_report"] = set(re.findall(r'"(attempt|attempt_id|node|message)":', late))
    types["job.parked"] = {"message"}
    return types


def in_sql() -> set[str]:
    """Every type that a statement of the ledger names."""
    files = Path(windlass.store.__path__[0]).glob("*.py")
    return {name for file in files for name in _IN_SQL.findall(file.read_text())}


def events() -> str:
    """docs/reference/events.md."""
    types = found()
    rows = [
        f"| `{name}` | {WORDS[name]} | {', '.join(f'`{field}`' for field in FIELDS if field in types[name])} |"
        for name in WORDS
    ]
    fields = [f"| `{name}` | {words} |" for name, words in FIELDS.items()]
    types_table = ["| type | what happened | `data` may hold |", "|---|---|---|", *rows]
    fields_table = ["| field | |", "|---|---|", *fields]
    return "\n".join([_HEAD, "## Types\n", *types_table, "", "## Fields of `data`\n", *fields_table, ""])
