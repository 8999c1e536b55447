"""Where settings come from. Later sources win: defaults, a TOML file (`--config` or WINDLASS_CONFIG),
WINDLASS_<SECTION>_<KEY> variables, command-line flags. WINDLASS_<SECTION>_<KEY>_FILE names a file that holds the value:
the way for secrets, which a variable shows to whoever may look at the process.

A key nobody knows or a value that does not fit is a SettingsError that names it, shows the value (never a password)
and says what to write instead. In variables a list is written `a,b` and a map `k=v,k2=v2`.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from windlass import crash
from windlass.core.quantity import parse_cpu, parse_size
from windlass.errors import SettingsError
from windlass.settings import Api, Database, Log, Metrics, Redis, Scheduler, Settings, Tracing, Worker, masked

PREFIX = "WINDLASS_"
IN_FILE = "_FILE"
#: Variables read elsewhere: by the client, and by tests of crashes. They set nothing.
CLIENT_VARIABLES = frozenset(
    {"WINDLASS_URL", "WINDLASS_TOKEN", "WINDLASS_TOKEN_FILE", "WINDLASS_CA_FILE", "WINDLASS_CONFIG", crash.VARIABLE}
)
#: what a job finds in its environment: a job may start Windlass itself
JOB_VARIABLES = frozenset(f"WINDLASS_{name}" for name in ("JOB_ID", "ATTEMPT_ID", "ATTEMPT", "FENCE", "NODE_ID"))


class _Value(NamedTuple):
    """One value somebody set. `named` is how they named it, for messages; `text` when it came as a string to split;
    `hidden` when it is not to be shown."""

    key: str
    named: str
    value: object
    text: bool
    hidden: bool = False


def _url(*schemes: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not value.startswith(tuple(f"{s}://" for s in schemes)):
            raise ValueError(f"write a URL that begins with {' or '.join(f'{s}://' for s in schemes)}")
        return value

    return parse


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("write a folder's path")
    return Path(value).expanduser().absolute()


def _file(value: object) -> str:
    """A file's path; the empty text is none."""
    if not isinstance(value, str | Path):
        raise ValueError("write a file's path")
    return str(_path(value)) if str(value) else ""


#: Keys whose notation msgspec does not know.
_PARSERS: Mapping[str, Callable[[object], object]] = {
    "database.url": _url("postgresql", "postgres"),
    "database.ca_file": _file,
    "redis.url": _url("redis", "rediss", "unix"),
    "redis.worker_url": _url("redis", "rediss", "unix"),
    "redis.ca_file": _file,
    "api.url": _url("http", "https"),
    "api.admin_token_file": _file,
    "api.join_token_file": _file,
    "api.tls_cert_file": _file,
    "api.tls_key_file": _file,
    "api.ca_file": _file,
    "worker.join_file": _file,
    "tracing.endpoint": _url("http", "https"),
    "worker.data": _path,
    "worker.cpu": parse_cpu,
    "worker.memory": parse_size,
    "worker.log_cap_bytes": parse_size,
}

_SECTIONS: Mapping[str, type[Struct]] = {
    "database": Database, "redis": Redis, "api": Api, "scheduler": Scheduler, "worker": Worker,
    "metrics": Metrics, "log": Log, "tracing": Tracing,
}  # fmt: skip
#: Every dotted key and its type.
_KEYS: Mapping[str, object] = {"cluster": fields(Settings)[0].type} | {
    f"{section}.{info.name}": info.type for section, kind in _SECTIONS.items() for info in fields(kind)
}


def load(
    config: Path | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings from all sources. `flags` maps dotted keys to values, None meaning not given.

    Raises SettingsError.
    """
    tree: dict[str, dict[str, object]] = {section: {} for section in _SECTIONS}
    top: dict[str, object] = {}
    for given in _given(config, flags or {}, os.environ if environ is None else environ):
        section, _, name = given.key.rpartition(".")
        (tree[section] if section else top)[name] = _convert(given)
    try:
        sections = {section: kind(**tree[section]) for section, kind in _SECTIONS.items()}
    except ValueError as e:
        raise SettingsError(str(e)) from None
    return Settings(**top, **_trusting(sections))  # pyright: ignore[reportArgumentType]  # each was converted by its own field


def origins(config: Path | None = None, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Who set each dotted key that somebody set: a variable, or a file and the key in it. Raises SettingsError."""
    return {given.key: given.named for given in _given(config, {}, os.environ if environ is None else environ)}


def effective(settings: Settings) -> dict[str, object]:
    """Every dotted key with its value, secrets and all."""
    plain = cast("dict[str, Any]", msgspec.to_builtins(settings, enc_hook=str))
    return {key: plain[key] if key in plain else plain[key.split(".")[0]][key.split(".")[1]] for key in _KEYS}


def _given(config: Path | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Iterator[_Value]:
    """Every value somebody set; of one key the last counts."""
    if config is None and environ.get("WINDLASS_CONFIG"):
        config = Path(environ["WINDLASS_CONFIG"])
    yield from _from_file(config)
    yield from _from_environ(environ)
    yield from _from_flags(flags)


def _trusting(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The sections, their URLs with what a `ca_file` means for them; what a URL says itself counts more."""
    database, redis = sections["database"], sections["redis"]
    if database.ca_file:
        wanted = {"sslmode": "verify-full", "sslrootcert": database.ca_file}
        database = msgspec.structs.replace(database, url=_with_query(database.url, wanted))
    if redis.ca_file:
        redis = msgspec.structs.replace(redis, url=_with_query(redis.url, {"ssl_ca_certs": redis.ca_file}))
    return {**sections, "database": database, "redis": redis}


def _with_query(url: str, more: Mapping[str, str]) -> str:
    """The URL with these parameters, save those it has."""
    parts = urlsplit(url)
    added = {key: value for key, value in more.items() if key not in parse_qs(parts.query)}
    query = "&".join(filter(None, (parts.query, urlencode(added, quote_via=quote))))
    return urlunsplit(parts._replace(query=query)) if url else ""


def variable(key: str) -> str:
    """The variable that sets this dotted key: api.port -> WINDLASS_API_PORT."""
    return PREFIX + key.replace(".", "_").upper()


def variables() -> dict[str, str]:
    """Every variable that sets something, and the dotted key it sets."""
    return {variable(key): key for key in _KEYS}


def require(settings: Settings, *keys: str) -> None:
    """Raise a SettingsError for the first of these dotted keys that is empty."""
    for key in keys:
        section, name = key.split(".")
        if not getattr(getattr(settings, section), name):
            raise SettingsError(
                f"{key} is not set: set {variable(key)}, or {name} in section [{section}] of a config file"
            )


def _from_file(config: Path | None) -> Iterator[_Value]:
    if config is None:
        return
    try:
        tree = tomllib.loads(config.read_text())
    except OSError as e:
        raise SettingsError(f"config file {str(config)!r} can't be read: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SettingsError(f"config file {str(config)!r} is not valid TOML: {e}") from None
    for section, values in tree.items():
        for key, value in _flat(section, values):
            if key not in _KEYS:
                raise SettingsError(f"{config}: unknown setting {key!r}{_meant(key, _KEYS)}")
            yield _Value(key, f"{config}: {key}", value, text=False)


def _flat(section: str, values: object) -> Iterable[tuple[str, object]]:
    if section not in _SECTIONS:
        return [(section, values)]
    if not isinstance(values, dict):
        raise SettingsError(f"{section!r} is a section: write [{section}] and its keys below it")
    return [(f"{section}.{name}", value) for name, value in cast("dict[str, object]", values).items()]


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Value]:
    known = variables()
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in CLIENT_VARIABLES | JOB_VARIABLES:
            continue
        itself = name.removesuffix(IN_FILE)
        if name in known:
            yield _Value(known[name], name, value, text=True)
        elif itself not in known:
            raise SettingsError(f"unknown variable {name}{_meant(name, _like(name, known))}")
        elif itself in environ:
            raise SettingsError(f"{itself} and {name} are both set: keep one of them")
        else:
            yield _Value(known[itself], name, _content(name, Path(value)), text=True, hidden=True)


def _like(name: str, known: Iterable[str]) -> Iterable[str]:
    """The variables there are, as a name that ends in _FILE would have them."""
    return [k if k.endswith(IN_FILE) else k + IN_FILE for k in known] if name.endswith(IN_FILE) else known


def _content(name: str, path: Path) -> str:
    """What the file that this variable names holds, without the newline at its end."""
    try:
        content = path.read_text().rstrip("\r\n")
    except OSError as e:
        raise SettingsError(f"{name}: file {str(path)!r} can't be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{name}: file {str(path)!r} is not text") from None
    if not content:
        raise SettingsError(f"{name}: file {str(path)!r} is empty")
    return content


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Value]:
    for key, value in flags.items():
        if value is not None:
            yield _Value(key, f"--{key.rpartition('.')[2].replace('_', '-')}", value, text=False)


def _convert(given: _Value) -> object:
    kind = _KEYS[given.key]
    try:
        if given.key in _PARSERS:
            return _PARSERS[given.key](given.value)
        return cast("object", msgspec.convert(_split(given, kind), cast("Any", kind), strict=not given.text))
    except ValueError as e:
        fix = re.sub(r" - at `.*`$", "", str(e)).replace("`", "")
        raise SettingsError(f"{given.named}{_shown(given)} is not valid: {fix}{_choices(kind)}") from None


def _shown(given: _Value) -> str:
    if given.hidden:
        return ": what its file holds"
    shown = masked(given.value) if isinstance(given.value, str) else given.value
    return f" = {shown!r}"


def _split(given: _Value, kind: object) -> object:
    if not given.text or not isinstance(given.value, str):
        return given.value
    parts = [part.strip() for part in given.value.split(",") if part.strip()]
    if get_origin(kind) is tuple:
        return parts
    if get_origin(kind) is dict:
        return {key: value for key, _, value in (part.partition("=") for part in parts)}
    return given.value


def _choices(kind: object) -> str:
    if kind is bool:
        return " (one of: true, false)"
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return f" (one of: {', '.join(get_args(kind))})" if get_origin(kind) is Literal else ""


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known := list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are: {', '.join(known)}"
