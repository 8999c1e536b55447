"""The keyring: which token is whose, remembered for moments, so that a request costs no question to the ledger.

What is remembered is believed for FRESH_S seconds at most, counted from before the ledger was asked: a token that is
revoked, here or on another API process, opens nothing after that. From SOON_S on it is asked for again, beside the
requests that use it. A token is looked up by its hash, so how long that takes says nothing of any token.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from windlass.core.access import Role, digest, sound
from windlass.core.ids import NodeId
from windlass.errors import SettingsError, Unavailable, WindlassError
from windlass.settings import Api
from windlass.store import tokens
from windlass.store.db import Pool, borrow

log = structlog.get_logger("api")

SOON_S, FRESH_S = 1.0, 2.5
#: How many tokens are remembered, those that do not exist included.
REMEMBERED = 10_000
#: Questions to the ledger at the same time: made-up tokens must not take all its connections.
AT_ONCE = 2
#: Seconds between two writes of what was used, and between two looks at the files.
USED_EVERY_S, FILES_EVERY_S = 30.0, 1.0
#: The least letters a token of a file has: with fewer it could be guessed.
FILE_LETTERS = 32


class Refused(WindlassError):
    """The token opens nothing here; says why."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Without a token's id: nobody in particular, or whoever has a file."""

    token_id: str | None
    name: str
    role: Role
    node_id: NodeId | None = None


#: Who asks where nobody needs a token.
ANYBODY = Caller(None, "anonymous", Role.ADMIN)


@dataclass(slots=True)
class _Known:
    """What the ledger said of a token, and when it was asked: whose it is, or why it opens nothing."""

    at: float
    answer: Caller | str = ""
    asking: asyncio.Task[Unavailable | None] | None = None


class Keyring:
    """One per API process; `run` lasts until cancelled. `clock` gives monotonic seconds."""

    def __init__(self, pool: Pool, settings: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._clock = pool, clock
        self._known: dict[bytes, _Known] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._used: set[str] = set()
        self._files = token_files(settings)

    async def caller(self, token: str) -> Caller:
        """Whose token this is. Raises Refused, Unavailable."""
        mark = digest(token)
        for file in self._files:
            if file.mark == mark:
                return file.caller
        known = self._known.get(mark)
        if known is None:
            if not sound(token):
                raise Refused("this is no token: it was cut or mistyped, for its checksum does not fit")
            known = self._remember(mark)
        age = self._clock() - known.at
        if age >= SOON_S and (known.asking is None or known.asking.done()):
            known.asking = asyncio.create_task(self._ask(mark, known))
        if age >= FRESH_S and known.asking is not None:
            fault = await asyncio.shield(known.asking)
            if fault is not None:
                raise Unavailable(str(fault))
        if not isinstance(known.answer, Caller):
            raise Refused(known.answer)
        if known.answer.token_id is not None:
            self._used.add(known.answer.token_id)
        return known.answer

    async def _ask(self, mark: bytes, known: _Known) -> Unavailable | None:
        try:
            async with self._slots:
                at = self._clock()
                async with borrow(self._pool) as conn:
                    found = await tokens.find(conn, mark)
        except Unavailable as fault:
            return fault
        known.at, known.answer = at, _answer(found)
        return None

    def _remember(self, mark: bytes) -> _Known:
        while len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[mark] = known = _Known(self._clock() - FRESH_S)
        return known

    def forget(self) -> None:
        """Ask the ledger anew for every token: one was revoked here."""
        self._known.clear()

    async def run(self) -> None:
        """Watch the files, and write down now and then what was used."""
        written = self._clock()
        while True:
            await asyncio.sleep(FILES_EVERY_S)
            for file in self._files:
                file.look()
            if self._used and self._clock() - written >= USED_EVERY_S:
                written = self._clock()
                await self.write_used()

    async def write_used(self) -> None:
        """Record which tokens were used; when the ledger is away, the next time."""
        used, self._used = self._used, set()
        try:
            async with borrow(self._pool) as conn:
                await tokens.used(conn, sorted(used))
        except Unavailable:
            self._used |= used


def _answer(found: tokens.Found | None) -> Caller | str:
    if found is None:
        return "this token is not known here: see that it is this cluster's, or have a new one made"
    token, now = found.token, found.now
    if token.revoked_at is not None:
        return f"the token {token.name!r} ({token.id}) was revoked at {token.revoked_at:%F %R} UTC; have a new one made"
    if token.expires_at is not None and token.expires_at <= now:
        return f"the token {token.name!r} ({token.id}) expired at {token.expires_at:%F %R} UTC; have a new one made"
    return Caller(token.id, token.name, token.role, token.node_id)


class _File:
    """A token that whoever installs the cluster put into a file."""

    def __init__(self, path: Path, role: Role) -> None:
        self._path = path
        self.caller = Caller(None, f"{role} token file", role)
        self.mark = b""
        self._seen = self._stamp()
        self._read()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino

    def _read(self) -> None:
        """Raises SettingsError."""
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"token file {str(self._path)!r} can't be read: {error}") from None
        if len(token) < FILE_LETTERS or not token.isascii() or len(token.split()) != 1:
            raise SettingsError(
                f"token file {str(self._path)!r} must hold one token of at least {FILE_LETTERS} characters: "
                "make one with `windlass token generate`"
            )
        self.mark = digest(token)

    def look(self) -> None:
        """Read it again when it has changed; one that can't be read opens nothing."""
        seen = self._stamp()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._read()
            log.info("token_file_read", path=str(self._path))
        except SettingsError as error:
            self.mark = b""
            log.error("token_file_not_read", error=str(error))


def token_files(settings: Api) -> list[_File]:
    """The tokens of files. Raises SettingsError when one is not as it should be."""
    wanted = ((settings.admin_token_file, Role.ADMIN), (settings.join_token_file, Role.JOIN))
    return [_File(Path(path), role) for path, role in wanted if path]
