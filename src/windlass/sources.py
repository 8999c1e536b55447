"""Where settings come from. Later sources win: defaults, a TOML file (`--config` or WINDLASS_CONFIG),
WINDLASS_<SECTION>_<KEY> variables, command-line flags.

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

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from windlass import crash
from windlass.core.quantity import parse_cpu, parse_size
from windlass.errors import SettingsError
from windlass.settings import Api, Database, Log, Metrics, Redis, Scheduler, Settings, Worker, masked

PREFIX = "WINDLASS_"
#: Variables read elsewhere: by the client, and by tests of crashes. They set nothing.
CLIENT_VARIABLES = frozenset({"WINDLASS_URL", "WINDLASS_TOKEN", "WINDLASS_CONFIG", crash.VARIABLE})
#: what a job finds in its environment: a job may start Windlass itself
JOB_VARIABLES = frozenset(f"WINDLASS_{name}" for name in ("JOB_ID", "ATTEMPT_ID", "ATTEMPT", "FENCE", "NODE_ID"))


class _Value(NamedTuple):
    """One value somebody set. `named` is how they named it, for messages; `text` when it came as a string to split."""

    key: str
    named: str
    value: object
    text: bool


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


#: Keys whose notation msgspec does not know.
_PARSERS: Mapping[str, Callable[[object], object]] = {
    "database.url": _url("postgresql", "postgres"),
    "redis.url": _url("redis", "rediss", "unix"),
    "api.url": _url("http", "https"),
    "worker.data": _path,
    "worker.cpu": parse_cpu,
    "worker.memory": parse_size,
    "worker.log_cap_bytes": parse_size,
}

_SECTIONS: Mapping[str, type[Struct]] = {
    "database": Database, "redis": Redis, "api": Api, "scheduler": Scheduler, "worker": Worker,
    "metrics": Metrics, "log": Log,
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
    environ = os.environ if environ is None else environ
    if config is None and environ.get("WINDLASS_CONFIG"):
        config = Path(environ["WINDLASS_CONFIG"])
    tree: dict[str, dict[str, object]] = {section: {} for section in _SECTIONS}
    top: dict[str, object] = {}
    for given in (*_from_file(config), *_from_environ(environ), *_from_flags(flags or {})):
        section, _, name = given.key.rpartition(".")
        (tree[section] if section else top)[name] = _convert(given)
    try:
        sections = {section: kind(**tree[section]) for section, kind in _SECTIONS.items()}
    except ValueError as e:
        raise SettingsError(str(e)) from None
    return Settings(**top, **sections)  # pyright: ignore[reportArgumentType]  # each was converted by its own field


def variable(key: str) -> str:
    """The variable that sets this dotted key: api.port -> WINDLASS_API_PORT."""
    return PREFIX + key.replace(".", "_").upper()


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
    known = {variable(key): key for key in _KEYS}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in CLIENT_VARIABLES | JOB_VARIABLES:
            continue
        if name not in known:
            raise SettingsError(f"unknown variable {name}{_meant(name, known)}")
        yield _Value(known[name], name, value, text=True)


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
        shown = masked(given.value) if isinstance(given.value, str) else given.value
        fix = re.sub(r" - at `.*`$", "", str(e)).replace("`", "")
        raise SettingsError(f"{given.named} = {shown!r} is not valid: {fix}{_choices(kind)}") from None


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
