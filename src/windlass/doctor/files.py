"""Files that hold secrets: which there are, and whether they are for the right eyes alone."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from windlass.core.access import sound
from windlass.doctor.findings import Notes
from windlass.settings import Settings
from windlass.sources import IN_FILE, PREFIX
from windlass.worker.join import FILE

#: Letters in a token file that no token command made; fewer could be guessed (api/keyring.py).
LEAST_LETTERS = 32


def secret_files(settings: Settings, config: Path | None, environ: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Every file with a secret that settings and variables name, by the name it has there."""
    environ = os.environ if environ is None else environ
    found = {name: Path(path) for name, path in environ.items() if name.startswith(PREFIX) and name.endswith(IN_FILE)}
    named = {
        "api.admin_token_file": settings.api.admin_token_file,
        "api.join_token_file": settings.api.join_token_file,
        "api.tls_key_file": settings.api.tls_key_file,
        "worker.join_file": settings.worker.join_file,
    }
    given = set(found.values())
    found |= {name: Path(path) for name, path in named.items() if path and Path(path) not in given}
    found |= {str(path): path for path in kept(settings)}
    if config is not None and config.exists() and settings.database.url + settings.redis.url != "":
        found["the config file"] = config
    open_to_all = ("WINDLASS_CA_FILE", "WINDLASS_API_CA_FILE", "WINDLASS_DATABASE_CA_FILE", "WINDLASS_REDIS_CA_FILE",
                   "WINDLASS_API_TLS_CERT_FILE")  # fmt: skip
    return {name: path for name, path in found.items() if name not in open_to_all}


def kept(settings: Settings) -> list[Path]:
    """The credentials of the nodes of this host."""
    folder = settings.worker.data
    try:
        return [path for path in (folder / FILE, *folder.glob(f"[0-9]*/{FILE}")) if path.exists()]
    except OSError:
        return []


def examine(files: Mapping[str, Path], notes: Notes) -> None:
    """Look at each file's mode, and at what it holds where that should be a token."""
    for name, path in files.items():
        try:
            facts = path.stat()
            if not stat.S_ISREG(facts.st_mode):
                notes.note("file", f"{name}: {str(path)!r} is no plain file, and was not looked into")
                continue
            content = path.read_text()
        except FileNotFoundError:
            notes.error(
                "file", f"{name}: there is no {str(path)!r}", "make it (`windlass token generate`), or unset it"
            )
            continue
        except (OSError, UnicodeDecodeError) as fault:
            notes.error("file", f"{name}: {str(path)!r} can't be read: {fault}", "let the user that runs this read it")
            continue
        _mode(name, path, facts.st_mode, notes)
        if name.lower().endswith(("token_file", "join_file")):
            _token(name, path, content.strip(), notes)


def _mode(name: str, path: Path, mode: int, notes: Notes) -> None:
    fix = f"chmod {'0600' if path.name == FILE else 'o-rwx'} {path}"
    shown = f"{name}: {str(path)!r} has mode {stat.S_IMODE(mode):04o}"
    if path.name == FILE and mode & (stat.S_IRWXG | stat.S_IRWXO):
        notes.error("mode", f"{shown}: others than its user can take the node's place", fix)
    elif mode & stat.S_IWOTH:
        notes.error("mode", f"{shown}: anybody on this host can put another secret into it", fix)
    elif mode & stat.S_IROTH:
        notes.warn("mode", f"{shown}: anybody on this host can read it", fix)
    else:
        notes.ok("mode", shown)


def _token(name: str, path: Path, content: str, notes: Notes) -> None:
    if sound(content):
        return
    cut = content.startswith("wl") and "_" in content[:4]
    what = "a token that was cut or mistyped" if cut else "no token of ours"
    told = f"{name}: {str(path)!r} holds {what if content else 'nothing'}"
    if cut or len(content) < LEAST_LETTERS:
        notes.error("file", told, f"windlass token generate{' --join' if 'join' in name.lower() else ''} > {path}")
    else:
        notes.note("file", f"{told}, but it is long enough to serve as one")


def client_files(environ: Mapping[str, str] | None = None) -> list[Path]:
    """The file a client's own token is in."""
    path = (os.environ if environ is None else environ).get("WINDLASS_TOKEN_FILE")
    return [Path(path)] if path else []
