"""The API, as this host reaches it: whether it serves, somebody leads, and this host's token opens it."""

import asyncio
import socket
import ssl
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from windlass import __version__
from windlass.client import Client, ClientError, Cluster
from windlass.client.errors import AccessDenied
from windlass.doctor import tokens
from windlass.doctor.findings import Notes, Severity
from windlass.http import trusting

#: Seconds for each answer; days before its end that a certificate is told of.
ANSWER_S, SOON_DAYS = 5.0, 14.0


async def examine(url: str, ca_file: str, token: str, needed: bool, notes: Notes, of_tokens: Notes) -> None:
    """Look at the API. One that does not answer is a fault where it is `needed`."""
    client = Client(url, token=token or None, ca_file=ca_file or None, timeout=ANSWER_S, retries=0)
    async with client:
        try:
            version = await client.version()
        except ClientError as fault:
            severity = Severity.ERROR if needed else Severity.SKIPPED
            fix = "see that `windlass api` runs there, and set WINDLASS_URL (workers: api.url) to where it is"
            return notes.judge("reachable", False, "", str(fault), fix, severity)
        notes.ok("reachable", f"{url} answers")
        theirs = str(version.get("version", ""))
        told = f"it is {theirs}, this host has {__version__}"
        notes.judge("version", theirs == __version__, told, told, "upgrade the older one: docs/how-to/upgrade.md",
                    Severity.NOTE)  # fmt: skip
        await _inside(client, notes, of_tokens)
    if url.startswith("https:"):
        await _certificate(url, ca_file, notes)


async def _inside(client: Client, notes: Notes, of_tokens: Notes) -> None:
    """What a token is needed for."""
    try:
        me = await client.whoami()
        shown = "nobody needs a token there" if me.anonymous else f"this host's token is {me.name!r}, {me.role}"
        notes.ok("token", shown)
        _cluster(await client.cluster(), notes)
        if me.role == "admin":
            tokens.examine(await client.tokens.list(), datetime.now(UTC), of_tokens)
    except AccessDenied as fault:
        if fault.status == 403:
            return notes.skipped("cluster", str(fault))
        fix = "set WINDLASS_TOKEN_FILE to a file with a token; an admin makes one: windlass token create"
        notes.error("token", str(fault), fix)
    except ClientError as fault:
        notes.error("serves", str(fault), "see its log, and PostgreSQL")


def _cluster(found: Cluster, notes: Notes) -> None:
    notes.facts |= cast("dict[str, Any]", msgspec.to_builtins(found))
    fix = "see that a scheduler runs, and reaches PostgreSQL: docs/runbooks/WindlassNoLeader.md"
    notes.judge("leader", found.leader is not None, "a scheduler leads", "no scheduler leads: nothing is placed", fix)
    ready = found.nodes.get("ready", 0)
    fix = "start `windlass worker`, or see its log: docs/runbooks/WindlassNoNodeReady.md"
    told = "no node is ready: nothing runs"
    fine = "1 node is ready" if ready == 1 else f"{ready} nodes are ready"
    notes.judge("nodes", ready > 0, fine, told, fix, Severity.WARNING)
    if found.redis_degraded:
        notes.warn(
            "redis", "the leader is without Redis: starts take longer", "see docs/runbooks/WindlassRedisDegraded.md"
        )


async def _certificate(url: str, ca_file: str, notes: Notes) -> None:
    try:
        left = await asyncio.wait_for(asyncio.to_thread(_days_left, url, ca_file), ANSWER_S)
    except (OSError, ValueError, TimeoutError) as fault:
        return notes.error(
            "certificate", f"its certificate can't be trusted: {fault}", "set WINDLASS_CA_FILE, or renew it"
        )
    fix = "renew it; the API takes up the new file by itself"
    notes.judge("certificate", left > SOON_DAYS, f"its certificate ends in {left:.0f} days",
                f"its certificate ends in {left:.1f} days", fix, Severity.WARNING)  # fmt: skip


def _days_left(url: str, ca_file: str) -> float:
    parts = urlsplit(url)
    context = trusting(ca_file) if ca_file else ssl.create_default_context()
    address = (parts.hostname or "", parts.port or 443)
    plain = socket.create_connection(address, ANSWER_S)
    with closing(plain), context.wrap_socket(plain, server_hostname=parts.hostname) as sealed:
        shown = sealed.getpeercert() or {}
    return (ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()) / 86_400
