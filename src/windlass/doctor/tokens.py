"""Tokens the cluster knows: those that end soon, ended while in use, or open more than they need to."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from windlass.doctor.findings import Notes

#: Told before their end; and told after it, when they were used until then.
SOON, LATELY, UNUSED = timedelta(days=14), timedelta(days=7), timedelta(days=90)


class Token(Protocol):
    """As the ledger and the API's client have it."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def uses_left(self) -> int | None: ...
    @property
    def created_at(self) -> datetime | None: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def revoked_at(self) -> datetime | None: ...
    @property
    def last_used_at(self) -> datetime | None: ...


def examine(tokens: Iterable[Token], now: datetime, notes: Notes) -> None:
    """Look at each token that opens something, or did until lately."""
    known = list(tokens)
    live = [one for one in known if one.revoked_at is None and one.uses_left != 0]
    before = len(notes.findings)
    for token in live:
        _ending(token, now, notes)
        _broad(token, now, notes)
    valid = [one for one in live if one.expires_at is None or one.expires_at > now]
    notes.facts["valid"] = {
        role: sum(one.role == role for one in valid) for role in sorted({one.role for one in valid})
    }
    if len(notes.findings) == before:
        notes.ok("known", f"{len(valid)} valid, none of which ends within {SOON.days} days")


def _ending(token: Token, now: datetime, notes: Notes) -> None:
    if token.expires_at is None or token.role == "join":
        return
    fix = f"windlass token create --role {token.role} --name {token.name}, and give it to who uses the old one"
    named = f"token {token.name!r} ({token.role})"
    if token.expires_at <= now:
        used = token.last_used_at
        if now - token.expires_at < LATELY and used is not None and token.expires_at - used < LATELY:
            notes.warn("expired", f"{named} ended {token.expires_at:%Y-%m-%d %H:%M} UTC and was in use", fix)
    elif token.expires_at - now < SOON:
        notes.warn("expiring", f"{named} ends {token.expires_at:%Y-%m-%d %H:%M} UTC", fix)


def _broad(token: Token, now: datetime, notes: Notes) -> None:
    if token.expires_at is not None:
        return
    named, revoke = f"token {token.name!r} ({token.role})", f"windlass token revoke {token.name}"
    if token.role == "join" and token.uses_left is None:
        told = f"{named} lets any number of workers join, for ever"
        notes.warn("join", told, f"{revoke}, and make one with --uses or --expires")
    seen = token.last_used_at or token.created_at
    if token.role == "admin" and seen is not None and now - seen > UNUSED:
        notes.warn("unused", f"{named} never ends, and was not used for {(now - seen).days} days", revoke)
