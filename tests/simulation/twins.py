"""Twins: for every statement the simulated roles send, the same in Python over `Ledger`.

Each is named by its constant in windlass.store, so a statement that is renamed or new fails with its name; test_twin.py
holds each against the real PostgreSQL.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
import psycopg

import windlass.store
from tests.simulation.ledger import LIVE, OVER, Ledger, Row, Session
from windlass.store import tasks as task_store

Values = Mapping[str, Any]
Rows = list[tuple[Any, ...]]
Twin = Callable[[Ledger, Session, Values], Rows]

TWINS: dict[str, tuple[str, Twin]] = {}


class UnknownStatement(AssertionError):
    """A statement without a twin."""


@cache
def constants() -> dict[str, str]:
    """Every SQL constant of the store: text -> name such as `tasks.DUE`."""
    found: dict[str, str] = {}
    for module_info in pkgutil.iter_modules(windlass.store.__path__):
        module = importlib.import_module(f"windlass.store.{module_info.name}")
        for name, value in vars(module).items():
            if name.strip("_").isupper() and isinstance(value, str) and " " in value:
                found[value] = f"{module_info.name}.{name}"
    return found


def twin(name: str) -> Callable[[Twin], Twin]:
    """Marks the twin of a constant, such as `tasks.DUE`."""
    module, constant = name.split(".")
    statement = getattr(importlib.import_module(f"windlass.store.{module}"), constant)

    def known(function: Twin) -> Twin:
        TWINS[statement] = (name, function)
        return function

    return known


def twin_of(statement: str) -> tuple[str, Twin]:
    """Raises UnknownStatement."""
    found = TWINS.get(statement)
    if found is None:
        name = constants().get(statement) or " ".join(statement.split())[:120]
        raise UnknownStatement(f"the simulation has no twin of {name}; write one in tests/simulation/twins.py")
    return found


def _columns(text: str) -> list[tuple[str, str]]:
    """(alias, column) of each column in a list such as TASK_COLUMNS."""
    return re.findall(r"\b([a-z])\.(\w+)", text)


_TASK, _ATTEMPT = _columns(task_store.TASK_COLUMNS), _columns(task_store.ATTEMPT_COLUMNS)


def _task(ledger: Ledger, task: Row) -> tuple[Any, ...]:
    rows = {"t": task, "j": ledger.jobs[task["job_id"]]}
    return tuple(rows[alias][column] for alias, column in _TASK)


def _attempt(attempt: Row | None) -> tuple[Any, ...]:
    return tuple(None if attempt is None else attempt[column] for _, column in _ATTEMPT)


def fence_of(ledger: Ledger, term: int | None) -> int | None:
    """What FENCE selects: the term, if it is the lease's."""
    return term if term is not None and ledger.holds_term(term) else None


def _now(ledger: Ledger, values: Values) -> float:
    """The caller's clock, or else the server's."""
    return ledger.now() if values["now"] is None else values["now"]


def moment(seconds: float | None) -> datetime | None:
    """As psycopg shows a timestamptz."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


# -- leases -----------------------------------------------------------------------------------------------------------


@twin("leases.TAKE")
def take(ledger: Ledger, session: Session, values: Values) -> Rows:
    now, lease = ledger.now(), ledger.lease
    if lease is not None and lease["expires_at"] > now:
        return []
    term = 1 if lease is None else lease["term"] + 1
    ledger.lease = {"holder": values["holder"], "term": term, "since": now, "expires_at": now + values["ttl"]}
    return [(term, ledger.try_lock(values["key"] + term, session) if values["bell"] else None)]


@twin("leases.RENEW")
def renew(ledger: Ledger, session: Session, values: Values) -> Rows:
    lease = ledger.lease
    if lease is None or lease["holder"] != values["holder"] or lease["term"] != values["term"]:
        return []
    lease["expires_at"] = ledger.now() + values["ttl"]
    return [(lease["term"],)]


@twin("leases.RESIGN")
def resign(ledger: Ledger, session: Session, values: Values) -> Rows:
    lease = ledger.lease
    if lease is not None and lease["holder"] == values["holder"] and lease["term"] == values["term"]:
        lease["expires_at"] = ledger.now()
    return []


@twin("leases.SILENT")
def silent(ledger: Ledger, session: Session, values: Values) -> Rows:
    taken = ledger.try_lock(values["bell"], session)
    return [(ledger.unlock(values["bell"], session) if taken else False,)]


@twin("leases.PUT_DOWN")
def put_down(ledger: Ledger, session: Session, values: Values) -> Rows:
    return [(ledger.unlock(values["bell"], session),)]


@twin("leases.EXPIRE")
def expire(ledger: Ledger, session: Session, values: Values) -> Rows:
    lease, seen = ledger.lease, values["seen"]
    if lease is not None and lease["term"] == values["term"] and seen in (None, moment(lease["expires_at"])):
        lease["expires_at"] = ledger.now()
    return []


@twin("leases.LEADER")
def leader(ledger: Ledger, session: Session, values: Values) -> Rows:
    lease = ledger.lease
    if lease is None:
        return []
    until = lease["expires_at"]
    return [(lease["holder"], lease["term"], moment(lease["since"]), moment(until), until > ledger.now())]


@twin("schedulers.SEEN")
def seen(ledger: Ledger, session: Session, values: Values) -> Rows:
    now = ledger.now()
    for old in [i for i, row in ledger.schedulers.items() if row["seen_at"] < now - 3600 and i != values["id"]]:
        del ledger.schedulers[old]
    row = ledger.schedulers.setdefault(
        values["id"],
        {c: values[c] for c in ("id", "host", "pid", "version", "drivers")} | {"redis_degraded_since": None},
    )
    row["seen_at"] = now
    row["redis_degraded_since"] = (row["redis_degraded_since"] or now) if values["degraded"] else None
    return []


@twin("schedulers.KNOWN")
def known(ledger: Ledger, session: Session, values: Values) -> Rows:
    lately = [row for row in ledger.schedulers.values() if row["seen_at"] > ledger.now() - 60]
    return [(row["host"], row["version"], row["drivers"]) for row in lately]


@twin("schedulers.GONE")
def gone(ledger: Ledger, session: Session, values: Values) -> Rows:
    ledger.schedulers.pop(values["id"], None)
    return []


# -- the one door -----------------------------------------------------------------------------------------------------


@twin("apply.APPLY")
def apply(ledger: Ledger, session: Session, values: Values) -> Rows:
    doc, term = msgspec.json.decode(values["doc"]), values["term"]
    allowed = term is None or ledger.holds_term(term)
    moved: list[str] = []
    before: dict[str, Row] = {}
    if allowed:
        plain = [step for step in doc["tasks"] if not step["leans"]]
        leaning = [step for step in doc["tasks"] if step["leans"]]
        moved = [step["id"] for step in plain if _move(ledger, step, before)]
        if len(moved) == len(plain):
            moved += [step["id"] for step in leaning if _move(ledger, step, before)]
    old_attempts = _try(ledger, doc["attempts"], moved)
    for event in doc["events"]:
        if event["task_id"] in moved:
            ledger.tell(event["job_id"], event["type"], event["data"])
    ordered = _order(ledger, doc["outbox"]) if moved else []
    if allowed:
        for number in doc["sent"]:
            ledger.outbox.pop(int(number), None)
    for watcher in ledger.watchers:
        watcher(session, term, before, old_attempts)
    if moved or (doc["sent"] and allowed):
        ledger.wrote(session, term)
    return [(fence_of(ledger, term), moved or None, ordered or None, ledger.now())]


def _move(ledger: Ledger, step: Row, before: dict[str, Row]) -> bool:
    task = ledger.tasks.get(step["id"])
    if task is None or task["version"] != step["base"]:
        return False
    before[task["id"]] = dict(task)
    task.update({column: value for column, value in step.items() if column in task})
    task["version"] += 1
    return True


def _try(ledger: Ledger, attempts: list[Row], moved: list[str]) -> dict[str, Row | None]:
    """Insert or update; returns how each was before."""
    before: dict[str, Row | None] = {}
    for attempt in attempts:
        if attempt["task_id"] not in moved:
            continue
        known = ledger.attempts.get(attempt["id"])
        before[attempt["id"]] = None if known is None else dict(known)
        if known is not None:
            known.update({c: attempt[c] for c in _CHANGING})
            continue
        for other in ledger.attempts.values():
            if other["task_id"] == attempt["task_id"] and (
                other["number"] == attempt["number"] or (other["state"] in LIVE and attempt["state"] in LIVE)
            ):
                raise psycopg.errors.UniqueViolation("two live attempts of one task, or two of one number")
        ledger.attempts[attempt["id"]] = {"late": None, **attempt}
    return before


_CHANGING = ("state", "started_at", "finished_at", "stop_cause", "stop_sent_at", "cause", "exit_code", "message")


def _order(ledger: Ledger, rows: list[Row]) -> list[int]:
    numbers: list[int] = []
    for row in rows:
        number = next(ledger.numbers)
        ledger.outbox[number] = {"node_id": row["node_id"], "body": row["body"], "created_at": ledger.now()}
        numbers.append(number)
    return numbers


@twin("late.NOTE_LATE")
def note_late(ledger: Ledger, session: Session, values: Values) -> Rows:
    noted = 0
    for note in msgspec.json.decode(values["notes"]) if ledger.holds_term(values["term"]) else ():
        attempt = ledger.attempts.get(note["id"])
        if attempt is not None and attempt["late"] is None and attempt["state"] == "lost":
            attempt["late"] = note["late"]
            ledger.tell(note["job_id"], "job.late_report", note["data"])
            ledger.wrote(session, values["term"])
            noted += 1
    return [(fence_of(ledger, values["term"]), noted)]


@twin("park.PARK")
def park_tasks(ledger: Ledger, session: Session, values: Values) -> Rows:
    news: list[str] = []
    until = values["until"]
    for asked in msgspec.json.decode(values["rows"]) if ledger.holds_term(values["term"]) else ():
        task = ledger.tasks.get(asked["id"])
        if task is None or task["version"] != asked["base"]:
            continue
        if task["state"] in ("queued", "backoff"):
            not_before = max(until, task["not_before"] or until)
            task.update(state="backoff", reason=asked["reason"], wake_at=until, not_before=not_before)
        elif task["wake_at"] is not None and task["wake_at"] < until:
            task["wake_at"] = until
        else:
            continue
        task["version"] += 1
        ledger.wrote(session, values["term"])
        if asked["news"] and task["state"] == "backoff":
            ledger.tell(task["job_id"], "job.parked", {"message": asked["reason"]})
            news.append(task["id"])
    return [(fence_of(ledger, values["term"]), news or None)]


# -- tasks ------------------------------------------------------------------------------------------------------------


@twin("tasks.HEADS")
def heads(ledger: Ledger, session: Session, values: Values) -> Rows:
    limits, now = dict(zip(values["shapes"], values["limits"], strict=True)), ledger.now()
    rows: Rows = []
    for number, shape in ledger.shapes.items():
        line = [t for t in ledger.tasks.values() if t["shape"] == number and t["state"] == "queued"]
        line.sort(key=lambda t: (-t["priority"], t["seq"]))
        for task in line[: limits.get(number, task_store.UNKNOWN_SHAPE_LIMIT)]:
            rows.append((*shape, task["priority"], task["seq"], *_task(ledger, task), now))
    return rows


def _with_latest(ledger: Ledger, task: Row) -> tuple[Any, ...]:
    return (*_task(ledger, task), *_attempt(ledger.latest(task)))


@twin("tasks.BY_ID")
def by_id(ledger: Ledger, session: Session, values: Values) -> Rows:
    return [_with_latest(ledger, t) for t in map(ledger.tasks.get, values["ids"]) if t is not None]


def _of_attempt(ledger: Ledger, attempt: Row) -> tuple[Any, ...]:
    return (*_task(ledger, ledger.tasks[attempt["task_id"]]), *_attempt(attempt))


@twin("tasks.BY_ATTEMPT")
def by_attempt(ledger: Ledger, session: Session, values: Values) -> Rows:
    return [_of_attempt(ledger, a) for a in map(ledger.attempts.get, values["ids"]) if a is not None]


@twin("tasks.ALL_LIVE")
def all_live(ledger: Ledger, session: Session, values: Values) -> Rows:
    return [_of_attempt(ledger, a) for a in ledger.live()]


@twin("tasks.LIVE_ON_NODE")
def live_on_node(ledger: Ledger, session: Session, values: Values) -> Rows:
    mine = [a for a in ledger.live() if a["node_id"] == values["node_id"]]
    return [(*_of_attempt(ledger, a), ledger.now()) for a in mine]


@twin("tasks.DUE")
def due(ledger: Ledger, session: Session, values: Values) -> Rows:
    now = _now(ledger, values)
    fallen = [t for t in ledger.tasks.values() if t["wake_at"] is not None and t["wake_at"] <= now]
    fallen.sort(key=lambda t: t["wake_at"])
    return [_with_latest(ledger, t) for t in fallen[: values["limit"]]]


@twin("tasks.NEXT_DUE")
def next_due(ledger: Ledger, session: Session, values: Values) -> Rows:
    soonest = min((t["wake_at"] for t in ledger.tasks.values() if t["wake_at"] is not None), default=None)
    return [(None if soonest is None else soonest - _now(ledger, values),)]


@twin("tasks.CLOCK")
def clock(ledger: Ledger, session: Session, values: Values) -> Rows:
    return [(ledger.now(),)]


# -- jobs, shapes -----------------------------------------------------------------------------------------------------


@twin("jobs.SUBMIT")
def submit(ledger: Ledger, session: Session, values: Values) -> Rows:
    now, taken = ledger.now(), {job["idempotency_key"] for job in ledger.jobs.values()}
    accepted: list[str] = []
    for row in sorted(_jobs.decode(values["jobs"]), key=lambda row: row["ord"]):
        key = row["key"]
        if key is not None and key in taken:
            continue
        taken.add(key)
        accepted.append(row["id"])
        ledger.jobs[row["id"]] = {
            "id": row["id"],
            "name": row["name"],
            "queue": row["queue"],
            "labels": row["labels"],
            "spec": msgspec.json.encode(row["spec"]).decode(),
            "idempotency_key": key,
            "fingerprint": row["fingerprint"],
            "retry_of": row["retry_of"],
            "traceparent": row["traceparent"],
            "tracestate": row["tracestate"],
            "created_at": now,
        }
        ledger.tasks[row["task"]] = _new_task(ledger, row, now)
        ledger.tell(row["id"], "job.submitted")
    return [(moment(now), accepted or None)]


_jobs = msgspec.json.Decoder(list[Row])


def _new_task(ledger: Ledger, row: Row, now: float) -> Row:
    """A row of tasks with its defaults."""
    start = row["start_at"] if row["start_at"] is not None else None
    start = now + row["start_in"] if start is None and row["start_in"] is not None else start
    later = start is not None and start > now
    limits = [row["deadline_in"]] if later else [row["queue_in"], row["deadline_in"]]
    wakes = [now + limit for limit in limits if limit is not None] + ([start] if later else [])
    return {
        "id": row["task"],
        "job_id": row["id"],
        "shape": row["shape"],
        "priority": row["priority"],
        "seq": next(ledger.numbers),
        "state": "backoff" if later else "queued",
        "version": 0,
        "attempts": 0,
        "retries": 0,
        "infra_losses": 0,
        "node_losses": 0,
        "refusals": 0,
        "cancel_requested": False,
        "reason": f"starts at {moment(start):%Y-%m-%dT%H:%M:%SZ}" if later else None,
        "created_at": now,
        "queued_at": now,
        "not_before": start if later else None,
        "wake_at": min(wakes, default=None),
        "finished_at": None,
        "expire_at": None,
    }


@twin("jobs.FOUND")
def found(ledger: Ledger, session: Session, values: Values) -> Rows:
    there = [ledger.jobs[i] for i in values["ids"] if i in ledger.jobs]
    return [([job["id"] for job in there] or None, moment(max((job["created_at"] for job in there), default=None)))]


@twin("jobs.BY_KEY")
def by_key(ledger: Ledger, session: Session, values: Values) -> Rows:
    keys = set(values["keys"])
    return [
        (j["idempotency_key"], j["id"], j["fingerprint"]) for j in ledger.jobs.values() if j["idempotency_key"] in keys
    ]


@twin("jobs.DELETE")
def delete(ledger: Ledger, session: Session, values: Values) -> Rows:
    ids, term = set(values["ids"]), values["term"]
    if term is not None and not ledger.holds_term(term):
        return [(None, None)]
    gone = {t["job_id"]: t["id"] for t in ledger.tasks.values() if t["job_id"] in ids and t["state"] in OVER}
    tries = {a["id"] for a in ledger.attempts.values() if a["task_id"] in gone.values()}
    for attempt_id in tries:
        del ledger.attempts[attempt_id]
    for place in [place for place in ledger.chunks if place[0] in tries]:
        del ledger.chunks[place]
    ledger.events[:] = [event for event in ledger.events if event["job_id"] not in gone]
    for job_id, task_id in gone.items():
        del ledger.tasks[task_id]
        del ledger.jobs[job_id]
        ledger.tell(job_id, "job.deleted")
    if gone:
        ledger.wrote(session, term)
    return [(fence_of(ledger, term), list(gone) or None)]


@twin("jobs.EXPIRED")
def expired(ledger: Ledger, session: Session, values: Values) -> Rows:
    now = _now(ledger, values)
    over = [t for t in ledger.tasks.values() if t["expire_at"] is not None and t["expire_at"] <= now]
    over.sort(key=lambda t: t["expire_at"])
    return [(t["job_id"],) for t in over[: values["limit"]]]


@twin("shapes.INTERN")
def intern(ledger: Ledger, session: Session, values: Values) -> Rows:
    known = {shape: number for number, shape in ledger.shapes.items()}
    rows: Rows = []
    for shape in dict.fromkeys(zip(values["drivers"], values["millis"], values["memory"], strict=True)):
        if shape not in known:
            known[shape] = len(ledger.shapes) + 1
            ledger.shapes[known[shape]] = shape
        rows.append((known[shape], *shape))
    return rows


@twin("shapes.ALL")
def all_shapes(ledger: Ledger, session: Session, values: Values) -> Rows:
    return [(number, *shape) for number, shape in ledger.shapes.items()]


# -- nodes ------------------------------------------------------------------------------------------------------------


@twin("nodes.UPSERT")
def upsert(ledger: Ledger, session: Session, values: Values) -> Rows:
    if ledger.holds_term(values["term"]):
        now = ledger.now()
        row = ledger.nodes.setdefault(
            values["id"], {"cordoned": False, "draining": False, "drain_until": None, "registered_at": now}
        )
        row.update({c: _plain(values[c]) for c in values if c != "term"}, heartbeat_at=now)
        ledger.wrote(session, values["term"])
    return [(fence_of(ledger, values["term"]),)]


def _plain(value: Any) -> Any:
    return getattr(value, "obj", value)  # Jsonb


@twin("nodes.BEAT")
def beat(ledger: Ledger, session: Session, values: Values) -> Rows:
    if ledger.holds_term(values["term"]):
        for node_id in values["ids"]:
            if node_id in ledger.nodes:
                ledger.nodes[node_id]["heartbeat_at"] = ledger.now()
        ledger.wrote(session, values["term"])
    return [(fence_of(ledger, values["term"]),)]


@twin("nodes.SET_STATE")
def set_state(ledger: Ledger, session: Session, values: Values) -> Rows:
    if ledger.holds_term(values["term"]) and values["id"] in ledger.nodes:
        ledger.nodes[values["id"]]["state"] = values["state"]
        ledger.wrote(session, values["term"])
    return [(fence_of(ledger, values["term"]),)]


@twin("nodes.CORDON")
def cordon(ledger: Ledger, session: Session, values: Values) -> Rows:
    if values["id"] in ledger.nodes:
        ledger.nodes[values["id"]]["cordoned"] = True
    return []


@twin("nodes.UNCORDON")
def uncordon(ledger: Ledger, session: Session, values: Values) -> Rows:
    if values["id"] in ledger.nodes:
        ledger.nodes[values["id"]].update(cordoned=False, draining=False, drain_until=None)
    return []


@twin("nodes.DRAIN")
def drain(ledger: Ledger, session: Session, values: Values) -> Rows:
    until = None if values["within"] is None else ledger.now() + values["within"]
    if values["id"] in ledger.nodes:
        ledger.nodes[values["id"]].update(cordoned=True, draining=True, drain_until=until)
    return []


@twin("nodes.FORGET")
def forget(ledger: Ledger, session: Session, values: Values) -> Rows:
    if ledger.nodes.get(values["id"], {}).get("state") != "lost":
        return []
    del ledger.nodes[values["id"]]
    return [(values["id"],)]


@twin("nodes.WANTED")
def wanted(ledger: Ledger, session: Session, values: Values) -> Rows:
    def due(n: Row) -> bool | None:
        return False if not n["draining"] else None if n["drain_until"] is None else n["drain_until"] <= ledger.now()

    return [(n["id"], n["cordoned"], n["draining"], due(n)) for n in ledger.nodes.values()]


@twin("nodes.STATE_OF")
def state_of(ledger: Ledger, session: Session, values: Values) -> Rows:
    node = ledger.nodes.get(values["id"])
    return [] if node is None else [(node["state"],)]


@twin("nodes.ALL")
def all_nodes(ledger: Ledger, session: Session, values: Values) -> Rows:
    rows: Rows = []
    for n in sorted(ledger.nodes.values(), key=lambda n: (n["name"], n["id"])):
        mine = [ledger.shapes[a["shape"]] for a in ledger.live() if a["node_id"] == n["id"]]
        rows.append(
            (
                *(n[c] for c in ("id", "name", "state", "cordoned", "drivers", "millis", "memory", "version")),
                n["labels"],
                n["facts"],
                moment(n["registered_at"]),
                moment(n["heartbeat_at"]),
                n["draining"],
                moment(n["drain_until"]),
                n["leaving"],
                sum(shape[1] for shape in mine),
                sum(shape[2] for shape in mine),
                len(mine),
            )
        )
    return rows


# -- outbox, logs -----------------------------------------------------------------------------------------------------


@twin("outbox.STALE")
def stale(ledger: Ledger, session: Session, values: Values) -> Rows:
    now = ledger.now()
    old = [(i, r) for i, r in sorted(ledger.outbox.items()) if r["created_at"] <= now - values["age"]]
    return [(i, r["node_id"], r["body"]) for i, r in old[: values["limit"]]]


@twin("outbox.CLEAR")
def clear(ledger: Ledger, session: Session, values: Values) -> Rows:
    if ledger.holds_term(values["term"]):
        for number in values["ids"]:
            ledger.outbox.pop(number, None)
        ledger.wrote(session, values["term"])
    return [(fence_of(ledger, values["term"]),)]


@twin("inbox.PUT")
def put(ledger: Ledger, session: Session, values: Values) -> Rows:
    now = ledger.now()
    for number in [number for number, row in ledger.inbox.items() if row["created_at"] < now - 60]:
        del ledger.inbox[number]
    ledger.inbox[next(ledger.numbers)] = {"body": values["body"], "taken": 0, "created_at": now}
    return []


@twin("inbox.TAKE")
def take_letters(ledger: Ledger, session: Session, values: Values) -> Rows:
    term, suspect = values["term"], values["suspect"]
    if not ledger.holds_term(term):
        return [(None, None, None, None)]
    fresh, size = list[int](), 0
    for number, row in ledger.inbox.items():
        if row["taken"] < suspect and size < values["bytes"] and len(fresh) < values["limit"]:
            fresh.append(number)
            size += len(row["body"])
    taken = sorted(fresh + [number for number, row in ledger.inbox.items() if row["taken"] >= suspect][:1])
    for number in taken:
        ledger.inbox[number]["taken"] += 1
    if not taken:
        return [(term, None, None, None)]
    ledger.wrote(session, term)
    rows = [ledger.inbox[number] for number in taken]
    return [(term, taken, [row["body"] for row in rows], [row["taken"] for row in rows])]


@twin("inbox.CLEAR")
def clear_letters(ledger: Ledger, session: Session, values: Values) -> Rows:
    if ledger.holds_term(values["term"]):
        for number in values["ids"]:
            ledger.inbox.pop(number, None)
        ledger.wrote(session, values["term"])
    return [(fence_of(ledger, values["term"]),)]


@twin("logs.APPEND")
def append(ledger: Ledger, session: Session, values: Values) -> Rows:
    columns = ("attempts", "streams", "starts", "missing", "data")
    for attempt_id, stream, start, missing, data in zip(*(values[c] for c in columns), strict=True):
        if attempt_id in ledger.attempts:
            ledger.chunks.setdefault((attempt_id, stream, start), {"missing": missing, "data": bytes(data)})
    return []


@twin("logs.STORED")
def stored(ledger: Ledger, session: Session, values: Values) -> Rows:
    ends: dict[str, int] = {}
    for (attempt_id, stream, start), row in ledger.chunks.items():
        if attempt_id == values["attempt_id"]:
            ends[stream] = max(ends.get(stream, 0), start + row["missing"] + len(row["data"]))
    return list(ends.items())


@twin("db.SAFE")
def safe(ledger: Ledger, session: Session, values: Values) -> Rows:
    return [(True,)]


def _nothing(ledger: Ledger, session: Session, values: Values) -> Rows:
    return []


TWINS["DISCARD PLANS"] = ("db.plan_anew", _nothing)
TWINS["SELECT 1"] = ("db.ping", lambda ledger, session, values: [(1,)])
