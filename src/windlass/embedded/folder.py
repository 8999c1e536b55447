"""The data folder: its layout, its lock, and a place for sockets.

DATA/lock        held by the one `windlass up` on this folder
DATA/postgres/   PostgreSQL's files      DATA/valkey/  Valkey's folder
DATA/run/        Unix sockets            DATA/log/     a log per server and role
DATA/worker/     the worker's own        DATA/bin/     binaries, when they had to be copied
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from windlass.embedded.account import Account, barrier, own, unprivileged
from windlass.errors import SettingsError

#: sun_path holds 108 bytes with its end; the longest socket name of ours is ".s.PGSQL.5432.lock".
_SOCKET_PATH_MAX = 107
_SOCKET_NAME_MAX = 19
_LOG_KEPT_BYTES = 10 * 2**20


def socket_folder(data: Path) -> Path:
    """Where the Unix sockets of a data folder are: below it, or in a short one where that path is too long for them."""
    wanted = data / "run"
    # PostgreSQL separates folders by commas and quotes them.
    if len(os.fsencode(wanted)) + _SOCKET_NAME_MAX <= _SOCKET_PATH_MAX and not set(str(wanted)) & {",", '"'}:
        return wanted
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"windlass-{digest}"


class DataFolder:
    """A folder that belongs to this process while the `with` block runs. Raises SettingsError when it can't be had."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        #: whom the servers run as; None: as this process
        self.account: Account | None = unprivileged()
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            # Others may pass through but not look: below it everything private is 0700.
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o711 if self.account else 0o700)
            self._claim()
        except OSError as e:
            raise SettingsError(
                f"data folder {str(self.path)!r} can't be used: {e.strerror}; choose one you own with --data"
            ) from None
        if self.account and (closed := barrier(self.account, self.path)):
            self._let_go()
            raise SettingsError(
                f"PostgreSQL runs as user {self.account.name!r}, who may not enter {str(closed)!r}: "
                f"allow it with chmod o+x {str(closed)!r}, or choose another folder with --data"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def private(self, name: str) -> Path:
        """A folder below it that only this process's user may enter."""
        return own(self.path / name, None)

    def served(self, name: str) -> Path:
        """A folder below it that belongs to the servers' account."""
        return own(self.path / name, self.account)

    def sockets(self) -> Path:
        """A folder for Unix sockets: below the data folder, or a short one where that path is too long for a socket."""
        wanted = socket_folder(self.path)
        if wanted == self.path / "run":
            return own(wanted, self.account)
        short = wanted
        short.mkdir(mode=0o700, exist_ok=True)
        facts, ours = short.lstat(), {os.geteuid(), self.account.uid if self.account else os.geteuid()}
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in ours:
            raise SettingsError(f"{str(short)!r} belongs to somebody else; choose a shorter folder with --data")
        return own(short, self.account)

    def log(self, name: str) -> Path:
        """The log file of a server or role. One that has grown large is put aside as NAME.log.1 first."""
        path = self.private("log") / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_KEPT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path

    def _claim(self) -> None:
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 20, 0).decode().strip()
            self._let_go()
            raise SettingsError(
                f"another windlass (process {holder}) already runs on data folder {str(self.path)!r}: "
                "stop it first, or choose another folder with --data"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
