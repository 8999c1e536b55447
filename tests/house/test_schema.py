"""The schema and the SQL agree with the code: every statement prepares, every closed set is the enum's, hot queries
go by an index however much lies beside them."""

import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
import pytest
from psycopg import sql

import windlass.store
from windlass.core.access import Role
from windlass.core.states import (
    TERMINAL_ATTEMPT,
    TERMINAL_TASK,
    AttemptState,
    Cause,
    Driver,
    JobState,
    NodeState,
    TaskState,
)
from windlass.store import db, events, jobs, outbox, schedulers, tasks
from windlass.store.jobs import Filter, list_statement

STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")
LIVE = set(AttemptState) - TERMINAL_ATTEMPT


def constants() -> Iterator[tuple[str, str]]:
    """Every SQL statement of the store, by name."""
    for info in pkgutil.iter_modules(windlass.store.__path__):
        module = importlib.import_module(f"windlass.store.{info.name}")
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and STATEMENT.match(value):
                yield f"{info.name}.{name}", value
    for state, labels, queue, name, paged in itertools.product(
        [None, *JobState], [None, {"a": "b"}], [None, "default", "gpu"], [None, "n"], [False, True]
    ):
        wanted = Filter(state, labels, queue, name)
        yield f"jobs.list {wanted} {paged=}", list_statement(wanted, paged=paged)


def numbered(statement: str) -> tuple[str, list[str]]:
    """The statement with $1, $2 … for its placeholders, and their names in order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        name = found[1] or f"positional {len(names)}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return re.sub(r"%(?:\((\w+)\))?s", number, statement), names


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """As the roles connect, in a database of this test's own."""
    arguments = db._arguments("test")  # pyright: ignore
    with psycopg.connect(database_url, **arguments) as connection:
        yield connection


def test_every_statement_prepares_against_the_schema(conn: psycopg.Connection[Any]) -> None:
    found = dict(constants())
    assert {"apply.APPLY", "tasks.HEADS", "jobs.SUBMIT", "leases.TAKE", "logs.APPEND"} <= set(found)
    faults: list[str] = []
    for name, statement in found.items():
        try:
            conn.execute(f"PREPARE p AS {numbered(statement)[0]}")  # pyright: ignore
            conn.execute("DEALLOCATE p")
        except psycopg.Error as error:
            faults.append(f"{name}: {error}")
    assert not faults, "\n".join(faults)


def words(definition: str) -> set[str]:
    return set(re.findall(r"'(\w+)'::text", definition))


CHECKS: dict[tuple[str, str], type[StrEnum] | set[str]] = {
    ("tasks", "state"): TaskState,
    ("attempts", "state"): AttemptState,
    ("attempts", "cause"): Cause,
    ("attempts", "stop_cause"): {"timeout", "cancelled", "drained"},
    ("nodes", "state"): NodeState,
    ("shapes", "driver"): Driver,
    ("log_chunks", "stream"): {"stdout", "stderr"},
    ("tokens", "role"): Role,
}


def test_closed_sets_in_the_schema_are_the_enums(conn: psycopg.Connection[Any]) -> None:
    rows = conn.execute(
        "SELECT conrelid::regclass::text, a.attname::text, pg_get_constraintdef(c.oid) FROM pg_constraint c"
        " JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]"
        " WHERE contype = 'c' AND cardinality(conkey) = 1"
    ).fetchall()
    found = {(table, column): words(text) for table, column, text in rows if words(text)}
    assert found == {place: {str(word) for word in allowed} for place, allowed in CHECKS.items()}


def test_what_the_schema_calls_over_and_live_is_what_the_core_does(conn: psycopg.Connection[Any]) -> None:
    over = dict(
        conn.execute(
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conname = 'finished_when_over'"
        ).fetchall()
    )
    assert {table: words(text) for table, text in over.items()} == {
        "tasks": TERMINAL_TASK,
        "attempts": TERMINAL_ATTEMPT,
    }
    live = dict(conn.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'attempts'").fetchall())
    assert words(live["attempts_one_live"]) == words(live["attempts_live_by_node"]) == LIVE
    assert "UNIQUE" in live["attempts_one_live"]
    for statement, wanted in ((jobs.OVER, TERMINAL_TASK), (jobs.DELETE, TERMINAL_TASK), (tasks.ALL_LIVE, LIVE)):
        [states] = re.findall(r"state IN \(([^)]*)\)", statement)
        assert set(re.findall(r"'(\w+)'", states)) == wanted


#: Much finished, much waiting, little running: 20,000 over, 20,000 queued, 200 live, 100 failed, 60,000 events.
SEED = """
INSERT INTO shapes (driver, millis, memory) VALUES ('process', 1000, 1), ('process', 2000, 1);
INSERT INTO jobs (id, name, queue, labels, spec)
    SELECT 'job_' || lpad(n::text, 8, '0'), CASE WHEN n % 400 = 0 THEN 'rare' END,
        CASE WHEN n % 500 = 0 THEN 'gpu' ELSE 'default' END,
        CASE WHEN n % 300 = 0 THEN '{"team": "data"}'::jsonb ELSE '{}'::jsonb END, '{}'
    FROM generate_series(1, 40300) n;
INSERT INTO tasks (id, job_id, shape, priority, state, attempts, finished_at, wake_at)
    SELECT 'tsk_' || lpad(n::text, 8, '0'), 'job_' || lpad(n::text, 8, '0'), 1 + n % 2, n % 3,
        CASE WHEN n <= 20000 THEN 'succeeded' WHEN n <= 20100 THEN 'failed' WHEN n <= 20300 THEN 'active'
            ELSE 'queued' END,
        (n <= 20300)::integer, CASE WHEN n <= 20100 THEN now() END,
        CASE WHEN n > 20100 THEN now() + (n - 20200) * interval '1 second' END
    FROM generate_series(1, 40300) n;
INSERT INTO attempts (id, task_id, number, node_id, node_name, fence, shape, state, placed_at, finished_at)
    SELECT 'att_' || lpad(n::text, 8, '0'), 'tsk_' || lpad(n::text, 8, '0'), 1, 'node_' || n % 10, 'n', 1, 1 + n % 2,
        CASE WHEN n <= 20000 THEN 'succeeded' WHEN n <= 20100 THEN 'failed' ELSE 'running' END, now(),
        CASE WHEN n <= 20100 THEN now() END
    FROM generate_series(1, 20300) n;
INSERT INTO events (job_id, type) SELECT 'job_' || lpad((n % 40300)::text, 8, '0'), 'test'
    FROM generate_series(1, 60000) n;
INSERT INTO events (txid, job_id, type) SELECT '1'::xid8, 'job_old', 'test' FROM generate_series(1, 20000) n;
INSERT INTO nodes (id, name, state, drivers, millis, memory, version, labels, facts)
    SELECT 'node_' || n, 'n', 'ready', '{process}', 1000, 1, '', '{}', '{}' FROM generate_series(0, 9) n;
INSERT INTO log_chunks (attempt_id, stream, start, data)
    SELECT 'att_' || lpad((n / 10)::text, 8, '0'), 'stdout', n, 'x' FROM generate_series(1, 20000) n;
"""
LISTS: list[tuple[Filter, str | None]] = [
    (Filter(), None),
    (Filter(), "job_00015000"),
    (Filter(JobState.QUEUED), None),
    (Filter(JobState.QUEUED), "job_00030000"),
    (Filter(JobState.RUNNING), "job_00020250"),
    (Filter(JobState.FAILED), None),
    (Filter(JobState.SUCCEEDED), "job_00015000"),
    (Filter(labels={"team": "data"}), None),
    (Filter(name="rare"), None),
    (Filter(queue="gpu"), None),
    (Filter(queue="default"), None),
]
IDS = [f"{n:08}" for n in range(19_000, 19_050)]
HOT: list[tuple[str, str, dict[str, Any]]] = [
    ("heads", tasks.HEADS, {"shapes": [1, 2], "limits": [64, 64]}),
    ("due", tasks.DUE, {"limit": 50, "now": 1e9}),
    ("next due", tasks.NEXT_DUE, {"now": 1e9}),
    ("by id", tasks.BY_ID, {"ids": [f"tsk_{n}" for n in IDS]}),
    ("by attempt", tasks.BY_ATTEMPT, {"ids": [f"att_{n}" for n in IDS]}),
    ("all live", tasks.ALL_LIVE, {}),
    ("job", jobs.GET, {"id": "job_00019000"}),
    ("over", jobs.OVER, {"id": "tsk_00019000"}),
    ("attempts", jobs.ATTEMPTS, {"tasks": [f"tsk_{n}" for n in IDS]}),
    ("ahead", jobs.AHEAD, {"priority": 1, "seq": 30_000}),
    ("by key", jobs.BY_KEY, {"keys": ["k"]}),
    ("expired", jobs.EXPIRED, {"limit": 100, "now": 1e9}),
    ("delete", jobs.DELETE, {"ids": [f"job_{n}" for n in IDS], "term": None}),
    ("events after", events.AFTER, {"txid": "2", "row": 0, "limit": 100}),
    ("events of a job", events.OF_JOB, {"job_id": "job_00019000", "limit": 100}),
    ("work", schedulers.WORK, {"most": 1000}),
    ("outbox", outbox.STALE, {"age": 2.0, "limit": 100}),
    *(
        (
            f"list {wanted} after {cursor}",
            list_statement(wanted, paged=cursor is not None),
            {"labels": '{"team": "data"}', "queue": wanted.queue, "name": wanted.name, "cursor": cursor, "limit": 50},
        )
        for wanted, cursor in LISTS
    ),
]
#: Rows a hot query may touch at most, of some 40,000 in each table.
TOUCHED = 2500


@dataclass(frozen=True)
class Cost:
    """What a plan did: the most rows any of its nodes went through, and the tables it read whole."""

    rows: float
    scanned: tuple[str, ...]


def cost(plan: dict[str, Any]) -> Cost:
    went = plan.get("Actual Loops", 1) * (
        plan.get("Actual Rows", 0) + sum(plan.get(key, 0) for key in plan if key.startswith("Rows Removed by"))
    )
    inner = [cost(child) for child in plan.get("Plans", [])]
    whole = (plan["Relation Name"],) if plan["Node Type"] == "Seq Scan" else ()
    return Cost(max([went, *(c.rows for c in inner)]), sum((c.scanned for c in inner), whole))


def test_hot_queries_go_by_an_index(conn: psycopg.Connection[Any]) -> None:
    """With the plan made for the values, and with the one made for any: a prepared statement may get either."""
    for statement in SEED.split(";"):
        conn.execute(statement)  # pyright: ignore
    conn.execute("VACUUM ANALYZE")
    faults: list[str] = []
    for mode, (name, statement, values) in itertools.product(("force_custom_plan", "force_generic_plan"), HOT):
        text, names = numbered(statement)
        with conn.transaction(force_rollback=True):
            conn.execute(f"SET LOCAL plan_cache_mode = {mode}")  # pyright: ignore
            conn.execute(f"PREPARE p AS {text}")  # pyright: ignore
            given = sql.SQL(", ").join(sql.Literal(values[n]) for n in names)
            call = sql.SQL("EXECUTE p({})").format(given) if names else sql.SQL("EXECUTE p")
            row = conn.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + call).fetchone()
            conn.execute("DEALLOCATE p")
        assert row is not None
        found = cost(row[0][0]["Plan"])
        big = [t for t in found.scanned if t in ("jobs", "tasks", "attempts", "events", "log_chunks")]
        if big or found.rows > TOUCHED:
            faults.append(f"{name} ({mode}): {found.rows:g} rows, whole tables: {big}")
    assert not faults, "\n".join(faults)
