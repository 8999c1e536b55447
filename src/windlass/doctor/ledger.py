"""What the ledger says, for the support bundle: who lives, what waits, what happened lately.

It only reads, and asks each question by itself, so that one that fails hides nothing of the others."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import psycopg

from windlass.doctor.papers import Papers, plain
from windlass.errors import WindlassError
from windlass.settings import Database
from windlass.store import backlog, checkup, jobs, nodes, schedulers
from windlass.store.db import Conn, connect

ANSWER_S = 5.0
#: Jobs of each kind, and attempts of each job.
JOBS, ATTEMPTS = 40, 20
#: A value in a job's environment that is shorter is found in ordinary words.
LEAST_VALUE = 8
#: Each paper: what it is, and how it is asked for.
Ask = Callable[[Conn], Awaitable[Any]]


def _papers(within_s: float) -> dict[str, tuple[str, Ask]]:
    def rows(statement: Any, **values: Any) -> Ask:
        return lambda conn: checkup.table(conn, statement, **values)

    return {
        "migrations.json": ("migrations that were applied", rows(checkup.MIGRATIONS)),
        "cluster.json": ("who leads and stands by, nodes by state, what waits and runs", schedulers.overview),
        "leases.json": ("the leader's lease", rows(checkup.LEASES)),
        "nodes.json": ("nodes, with what they have, use and say of themselves", nodes.every),
        "queue.json": ("tasks that are not over, by state and shape; how long the oldest waits", _queue),
        "tables.json": ("rows and sizes of the tables", rows(checkup.TABLES)),
        "sessions.json": ("connections to the database, and what they wait for", rows(checkup.SESSIONS)),
        "events.jsonl": ("what happened lately, newest first", rows(checkup.RECENT, within=within_s)),
    }


async def gather(settings: Database, within_s: float, papers: Papers) -> None:
    """Ask all of it. Events of the last `within_s` seconds."""
    if not settings.url:
        return papers.without("ledger/", "database.url is not set here")
    try:
        conn = await connect(settings.url, "debug", pooled=settings.pooled)
    except (WindlassError, psycopg.Error) as fault:
        return papers.without("ledger/", fault)
    conn.answer_s = ANSWER_S
    try:
        for name, (what, ask) in _papers(within_s).items():
            await _one(conn, papers, name, what, ask)
        await _one(conn, papers, "jobs.jsonl", _JOBS, lambda conn: _jobs(conn, papers))
    finally:
        with suppress(psycopg.Error):
            await conn.close()


_JOBS = "the newest jobs, and the newest that run, wait and failed; without commands and values of variables"


async def _one(conn: Conn, papers: Papers, name: str, what: str, ask: Ask) -> None:
    try:
        papers.put(f"ledger/{name}", what, await ask(conn))
    except (WindlassError, psycopg.Error) as fault:
        papers.without(f"ledger/{name}", (str(fault) or type(fault).__name__).splitlines()[0])


async def _queue(conn: Conn) -> dict[str, Any]:
    outbox, inbox = await backlog.under_way(conn)
    return {
        "open_by_state": await checkup.table(conn, checkup.OPEN),
        "by_shape": list((await backlog.count(conn, schedulers.AT_MOST)).values()),
        "oldest_waits_s": await backlog.oldest_s(conn),
        "outbox": outbox,
        "inbox": inbox,
    }


async def _jobs(conn: Conn, papers: Papers) -> list[dict[str, Any]]:
    found: dict[str, jobs.JobView] = {}
    for state in (None, "running", "queued", "failed"):
        wanted = jobs.Filter(state=None if state is None else jobs.JobState(state))
        found |= {job.id: job for job in await jobs.page(conn, wanted, JOBS, None)}
    tried = await jobs.attempts(conn, [job.task_id for job in found.values()])
    shown: list[dict[str, Any]] = []
    for _, job in sorted(found.items(), reverse=True):
        view: dict[str, Any] = plain(job)
        spec = msgspec.json.decode(view.pop("spec_text"), type=dict[str, Any])
        papers.secrets |= secret_values(spec)
        last = plain(tried.get(job.task_id, [])[-ATTEMPTS:])
        shown.append(view | {"spec": without_values(spec), "attempts": last})
    return shown


def secret_values(spec: dict[str, Any]) -> set[str]:
    """What a job finds in its variables: it may stand in a log, too."""
    held: dict[str, object] = spec.get("env") or {}
    return {value for value in map(str, held.values()) if len(value) >= LEAST_VALUE}


def without_values(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without what may be a secret in it: values of variables, and all of a command but its program."""
    shown = dict(spec)
    if shown.get("env"):
        shown["env"] = sorted(shown["env"])
    for field in ("command", "args"):
        words: list[object] = shown.get(field) or []
        kept = [str(word)[:200] for word in words[:1]] if field == "command" else []
        if len(words) > len(kept):
            shown[field] = [*kept, f"({len(words) - len(kept)} words left out)"]
    return shown
