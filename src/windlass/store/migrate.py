"""Migrations: numbered plain .sql files, forward only, each in one transaction, all under one advisory lock."""

import hashlib
from dataclasses import dataclass
from importlib import resources

import psycopg
from psycopg import sql

from windlass.errors import WindlassError
from windlass.store.db import SESSION, Conn

_LOCK = 0x77696E646C617373  # "windlass": any number of processes may migrate at once, one does

LOCK = "SELECT pg_advisory_xact_lock(%s)"
LEDGER = """
CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""
APPLIED = "SELECT name, sha256 FROM migrations"
DATABASE = "SELECT current_database()"
KEEP = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET {} = {}")
RECORD = "INSERT INTO migrations (name, sha256) VALUES (%s, %s)"


class MigrationChanged(WindlassError):
    """A migration that was applied here differs from the one this version carries."""


def migrations() -> list[tuple[str, bytes]]:
    """Every migration this version carries, in order: (name, SQL text)."""
    folder = resources.files("windlass.store") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [(f.name, f.read_bytes()) for f in files]


async def migrate(database_url: str) -> list[str]:
    """Bring the schema up to this version. Returns the names of what was applied now."""
    done: list[str] = []
    async with await psycopg.AsyncConnection.connect(database_url, prepare_threshold=None) as conn:
        for name, text in migrations():
            digest = hashlib.sha256(text).hexdigest()
            async with conn.transaction():
                await conn.execute(LOCK, (_LOCK,))
                await conn.execute(LEDGER)
                known = dict(await (await conn.execute(APPLIED)).fetchall())
                if name in known:
                    if known[name] != digest:
                        raise MigrationChanged(f"migration {name} was applied from another text; never edit one")
                    continue
                await conn.execute(text)
                await conn.execute(RECORD, (name, digest))
                done.append(name)
    return done


@dataclass(frozen=True, slots=True)
class State:
    """A database's migrations, by their names: those applied, and of them and ours those that do not fit."""

    applied: list[str]
    missing: list[str]
    changed: list[str]
    unknown: list[str]


async def compare(conn: Conn) -> State:
    """What was applied here beside what this version carries. Raises what the driver raises."""
    known = dict(await (await conn.execute(APPLIED)).fetchall())
    ours = {name: hashlib.sha256(text).hexdigest() for name, text in migrations()}
    changed = [name for name, digest in ours.items() if known.get(name, digest) != digest]
    return State(sorted(known), sorted(ours.keys() - known), changed, sorted(known.keys() - ours))


async def keep_session_settings(database_url: str) -> None:
    """Have every session of this user in this database set as ours are, for where a pooler lets nobody set his own.
    Sessions a pooler has open already keep what they had."""
    async with await psycopg.AsyncConnection.connect(database_url, prepare_threshold=None) as conn:
        row = await (await conn.execute(DATABASE)).fetchone()
        assert row is not None
        for name, value in SESSION.items():
            await conn.execute(KEEP.format(sql.Identifier(row[0]), sql.Identifier(name), sql.Literal(value)))
