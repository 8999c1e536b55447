"""Which site a command is about: settings from where they always come from, or the servers of `windlass up`."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from windlass.embedded.folder import socket_folder
from windlass.errors import SettingsError
from windlass.settings import Settings, default_data
from windlass.sources import load

#: Where `windlass up` keeps the logs of its servers and roles, below its folder.
LOGS = "log"


class Role(StrEnum):
    """What this host is looked at as; `any` looks at whatever is configured."""

    ANY = "any"
    API = "api"
    SCHEDULER = "scheduler"
    WORKER = "worker"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Site:
    """This host: its settings, the file they came from, the URL a client is told, `windlass up`'s folder,
    and the settings that come from there. `probe`: the image of a job that tries what none may do; empty: none does."""

    settings: Settings
    role: Role
    config: Path | None = None
    url: str | None = None
    data: Path | None = None
    found: frozenset[str] = frozenset()
    probe: str = ""


def site_of(role: str, config: Path | None, data: Path | None, url: str | None, *, stopped: bool = False) -> Site:
    """This host. Where no server is named, those of `windlass up` are, if its folder is there; with `stopped` that
    folder is named even if nothing runs on it. Raises SettingsError."""
    if role not in list(Role):
        raise SettingsError(f"there is no role {role!r} (one of: {', '.join(Role)})")
    if config is None and os.environ.get("WINDLASS_CONFIG"):
        config = Path(os.environ["WINDLASS_CONFIG"])
    settings = load(config)
    named = settings.database.url or settings.redis.url
    folder = data or (None if named else default_data())
    flags = _servers(folder) if folder is not None else {}
    if data is not None and not flags and not (stopped and os.path.isdir(data / LOGS)):
        raise SettingsError(_absent(data))
    if flags:
        return Site(load(config, flags), Role(role), config, url, folder, frozenset(flags))
    left = folder if stopped and folder is not None and os.path.isdir(folder / LOGS) else None
    return Site(settings, Role(role), config, url, left)


def _absent(folder: Path) -> str:
    sockets = socket_folder(folder.expanduser().absolute())
    if os.path.exists(sockets) and not os.access(sockets, os.X_OK):
        return f"the servers of `windlass up` in {str(folder)!r} are not open to this user: be the one that runs it"
    return f"no servers of `windlass up` run in {str(folder)!r}"


def _servers(folder: Path) -> dict[str, object]:
    """The URLs of the servers that `windlass up` runs on this folder; none where it does not run."""
    sockets = socket_folder(folder.expanduser().absolute())
    if not os.path.exists(sockets / "valkey.sock") or not os.path.exists(sockets / ".s.PGSQL.5432"):
        return {}
    database = f"postgresql://windlass@/postgres?host={quote(str(sockets), safe='')}"
    stream = f"unix://{quote(str(sockets / 'valkey.sock'))}"
    return {"worker.data": folder / "worker", "database.url": database, "redis.url": stream}
