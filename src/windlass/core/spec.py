"""What a user may ask for: the job's spec, its defaults, and every rule a valid one keeps.

The tables FIELDS, RESOURCES, BACKOFF and VOLUME say it once. `parse_spec` reads them to turn what a user wrote into a
JobSpec in canonical numbers (cores, bytes, seconds), `spec_schema` to describe it to OpenAPI. All faults of a spec are
told at once, each with the field, the value and the fix.
"""

import difflib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from windlass.core.quantity import parse_cpu, parse_duration, parse_size, show_size
from windlass.core.states import Driver

ENV_LIMIT = 128 * 1024
LABEL_LIMIT = 64


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault: `field` is the path as users write it (`resources.cpu`), `value` what was given, shortened."""

    field: str
    message: str
    value: str | None = None

    @property
    def pointer(self) -> str:
        """The same path as a JSON Pointer (RFC 6901)."""
        return "/" + re.sub(r"\[(\d+)\]", r".\1", self.field).replace(".", "/") if self.field else ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task needs: cores, bytes, a count of processes."""

    cpu: float = 1.0
    memory: int = 512 * 2**20
    memory_max: int | None = None
    pids: int = 256
    shm_size: int | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delay before retry n (from 0): min(initial * factor**n, max) seconds, spread by ± jitter (a share of it)."""

    initial: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder of the node shown in the container; the operator's allow-list decides whether it may be."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A valid spec in canonical numbers. Times are seconds; None means no limit, or the image's own choice."""

    name: str | None = None
    image: str | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    workdir: str | None = None
    user: str | None = None
    driver: Driver = Driver.DOCKER
    resources: Resources = Resources()
    max_retries: int = 3
    backoff: Backoff = Backoff()
    attempt_timeout: float | None = None
    job_deadline: float | None = None
    queue_timeout: float | None = None
    start_timeout: float = 600.0
    stop_grace: float = 10.0
    priority: int = 0
    queue: str = "default"
    labels: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    volumes: tuple[Volume, ...] = ()
    network: str = "bridge"
    exclusive: bool = False
    ttl_after_finished: float | None = None


Parser = Callable[[object], Any]


class _Faults(Exception):
    """Faults inside a nested value, with paths relative to it."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the table: how a field is read, and how it is described."""

    parse: Parser
    schema: Mapping[str, Any]
    doc: str


def _text(pattern: str, fix: str, limit: int) -> Parser:
    shape = re.compile(pattern, re.ASCII | re.DOTALL)

    def parse(value: object) -> str:
        if not isinstance(value, str) or not shape.fullmatch(value) or len(value) > limit:
            raise ValueError(fix)
        _clean(value)
        return value

    return parse


def _clean(value: str) -> None:
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode (no lone surrogates)") from None


def _words(value: object) -> tuple[str, ...]:
    words = cast("list[object]", value)
    if not isinstance(value, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError('must be a non-empty list of strings, such as ["bash", "-c", "echo done"]')
    strings = cast("list[str]", words)
    for word in strings:
        _clean(word)
    return tuple(strings)


def _whole(low: int, high: int) -> Parser:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


def _real(low: float, high: float) -> Parser:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return parse


def _positive(parse_number: Parser) -> Parser:
    def parse(value: object) -> Any:
        number = parse_number(value)
        if number <= 0:
            raise ValueError("must be more than 0")
        return number

    return parse


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _one_of(*choices: str) -> Parser:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return cast("str", value)

    return parse


_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('must be a map of names to strings, such as {"MODE": "fast"}')
    env = cast("dict[str, object]", value)
    for name, content in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise _Faults(
                [FieldError(_short(name), "a variable's name starts with a letter or _, then letters, digits, _ . -")]
            )
        if not isinstance(content, str):
            raise _Faults([FieldError(name, f'must be a string; write "{_short(content)}" in quotes', _short(content))])
        try:
            _clean(content)
        except ValueError as fault:
            raise _Faults([FieldError(name, str(fault), _short(content))]) from None
    strings = cast("dict[str, str]", env)
    size = sum(len(n.encode()) + len(c.encode()) + 2 for n, c in strings.items())
    if size > ENV_LIMIT:
        raise ValueError(f"is {size} bytes; the limit is {ENV_LIMIT} (128 KiB): pass large input as a file or volume")
    return strings


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('must be a map of strings, such as {"team": "data"}')
    labels = cast("dict[str, object]", value)
    if len(labels) > LABEL_LIMIT:
        raise ValueError(f"has {len(labels)} entries; the limit is {LABEL_LIMIT}")
    for key, content in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise _Faults(
                [FieldError(_short(key), "a key is up to 63 letters, digits, - _ . and may have a dns prefix/")]
            )
        if not isinstance(content, str) or not _LABEL_VALUE.fullmatch(content):
            raise _Faults([FieldError(key, "a value is up to 63 letters, digits, - _ .", _short(content))])
    return cast("dict[str, str]", labels)


def _container_path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 4096:
        raise ValueError('must be an absolute path, such as "/work"')
    _clean(value)
    return posixpath.normpath(value)


def _read(table: Mapping[str, Field], raw: object, what: str) -> dict[str, Any]:
    """The fields given in raw, parsed; raises _Faults with all that is wrong."""
    if not isinstance(raw, dict):
        raise ValueError(f"must be an object with fields such as {', '.join(list(table)[:3])}; see {what}")
    parsed: dict[str, Any] = {}
    errors: list[FieldError] = []
    for key, value in cast("dict[str, object]", raw).items():
        row = table.get(key)
        if row is None:
            errors.append(FieldError(_short(key), _unknown(key, table)))
        elif value is not None:
            try:
                parsed[key] = row.parse(value)
            except _Faults as nested:
                errors += [FieldError(_join(key, e.field), e.message, e.value) for e in nested.errors]
            except ValueError as fault:
                errors.append(FieldError(key, str(fault), _short(value)))
    if errors:
        raise _Faults(errors)
    return parsed


def _join(key: str, inner: str) -> str:
    return f"{key}{inner}" if inner.startswith("[") else f"{key}.{inner}"


def _unknown(key: str, table: Mapping[str, Field]) -> str:
    near = difflib.get_close_matches(key, table, n=1)
    return f"is not a field; did you mean {near[0]!r}?" if near else f"is not a field; known: {', '.join(table)}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= 80 else text[:77] + "..."


def _resources(value: object) -> Resources:
    return Resources(**_read(RESOURCES, value, "resources"))


def _backoff(value: object) -> Backoff:
    return Backoff(**_read(BACKOFF, value, "backoff"))


def _volumes(value: object) -> tuple[Volume, ...]:
    if not isinstance(value, list):
        raise ValueError('must be a list, such as [{"source": "/data", "target": "/data"}]')
    volumes: list[Volume] = []
    for i, item in enumerate(cast("list[object]", value)):
        try:
            given = _read(VOLUME, item, "volumes")
        except _Faults as nested:
            raise _Faults([FieldError(f"[{i}].{e.field}", e.message, e.value) for e in nested.errors]) from None
        except ValueError as fault:
            raise _Faults([FieldError(f"[{i}]", str(fault), _short(item))]) from None
        for needed in ("source", "target"):
            if needed not in given:
                raise _Faults([FieldError(f"[{i}].{needed}", "is missing")])
        volumes.append(Volume(**given))
    return tuple(volumes)


_NAME = r"[A-Za-z0-9][A-Za-z0-9 ._:/@+-]*"
_IMAGE = r"[A-Za-z0-9][A-Za-z0-9._:/@-]*"
_QUEUE = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?"

_STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_SIZE_SCHEMA = {"type": ["string", "integer"], "examples": ["512Mi", 536870912]}
_TIME_SCHEMA = {"type": ["string", "number"], "examples": ["90s", 90]}

RESOURCES: Mapping[str, Field] = {
    "cpu": Field(parse_cpu, {"type": ["string", "number"], "default": 1, "examples": ["500m", 0.5]}, "Cores."),
    "memory": Field(
        parse_size,
        _SIZE_SCHEMA | {"default": "512Mi"},
        "Reserved on the node; also the hard limit unless memory_max is given.",
    ),
    "memory_max": Field(parse_size, _SIZE_SCHEMA, "Hard limit, when it may exceed what is reserved."),
    "pids": Field(_whole(1, 4_194_304), {"type": "integer", "minimum": 1, "default": 256}, "Processes and threads."),
    "shm_size": Field(parse_size, _SIZE_SCHEMA, "Size of /dev/shm in the container."),
}

BACKOFF: Mapping[str, Field] = {
    "initial": Field(parse_duration, _TIME_SCHEMA | {"default": 1}, "Delay before the first retry."),
    "factor": Field(_real(1, 100), {"type": "number", "minimum": 1, "default": 2}, "Growth from retry to retry."),
    "max": Field(parse_duration, _TIME_SCHEMA | {"default": 300}, "No delay is longer."),
    "jitter": Field(_real(0, 1), {"type": "number", "default": 0.2}, "Spread, as a share of the delay."),
}

VOLUME: Mapping[str, Field] = {
    "source": Field(_container_path, {"type": "string"}, "A path on the node, on the operator's allow-list."),
    "target": Field(_container_path, {"type": "string"}, "Where the container sees it."),
    "read_only": Field(_flag, {"type": "boolean", "default": False}, "Whether writing is denied."),
}


def _object(table: Mapping[str, Field]) -> dict[str, Any]:
    properties = {name: dict(row.schema) | {"description": row.doc} for name, row in table.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


FIELDS: Mapping[str, Field] = {
    "name": Field(
        _text(_NAME, "must start with a letter or digit; up to 128 letters, digits, spaces and ._:/@+-", 128),
        {"type": "string", "maxLength": 128, "examples": ["nightly-report"]},
        "A label for people; it need not be unique.",
    ),
    "image": Field(
        _text(_IMAGE, 'must be an image reference, such as "python:3.12-slim"', 512),
        {"type": "string", "maxLength": 512, "examples": ["python:3.12-slim"]},
        "The container image. With none, the job runs as a process of the node, where operators allow it.",
    ),
    "command": Field(_words, _STRINGS, "Replaces the image's ENTRYPOINT, as in Kubernetes."),
    "args": Field(_words, _STRINGS, "Replaces the image's CMD, as in Kubernetes."),
    "env": Field(
        _env, {"type": "object", "additionalProperties": {"type": "string"}}, "Environment variables, 128 KiB in all."
    ),
    "workdir": Field(_container_path, {"type": "string", "pattern": "^/"}, "The directory the command starts in."),
    "user": Field(
        _text(r"[a-z0-9_][a-z0-9_.-]*(:[a-z0-9_][a-z0-9_.-]*)?", 'must be a user, such as "1000:1000" or "app"', 64),
        {"type": "string", "examples": ["1000:1000"]},
        "User and group in the container.",
    ),
    "driver": Field(
        lambda value: Driver(_one_of(*Driver)(value)),
        {"type": "string", "enum": [Driver.DOCKER.value, Driver.PROCESS.value]},
        "What runs it: docker when an image is named, else process.",
    ),
    "resources": Field(_resources, _object(RESOURCES), "What it needs."),
    "max_retries": Field(
        _whole(0, 100), {"type": "integer", "minimum": 0, "maximum": 100, "default": 3}, "3 means at most 4 attempts."
    ),
    "backoff": Field(_backoff, _object(BACKOFF), "The delay between attempts."),
    "attempt_timeout": Field(_positive(parse_duration), _TIME_SCHEMA, "Run limit of each attempt."),
    "job_deadline": Field(_positive(parse_duration), _TIME_SCHEMA, "Limit from submit to the end, retries included."),
    "queue_timeout": Field(_positive(parse_duration), _TIME_SCHEMA, "Longest wait in the queue."),
    "start_timeout": Field(
        _positive(parse_duration),
        _TIME_SCHEMA | {"default": 600},
        "Limit from placement to the start: pull and create.",
    ),
    "stop_grace": Field(parse_duration, _TIME_SCHEMA | {"default": 10}, "Between the stop signal and the kill."),
    "priority": Field(
        _whole(-1000, 1000),
        {"type": "integer", "minimum": -1000, "maximum": 1000, "default": 0},
        "Higher goes first; equals go in order of arrival.",
    ),
    "queue": Field(
        _text(_QUEUE, 'must be lower-case letters, digits and ._-, such as "default"', 63),
        {"type": "string", "default": "default"},
        "The line it waits in.",
    ),
    "labels": Field(
        _labels,
        {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": LABEL_LIMIT},
        "For filters: up to 64.",
    ),
    "volumes": Field(_volumes, {"type": "array", "items": _object(VOLUME)}, "Folders of the node."),
    "network": Field(
        _one_of("bridge", "none"), {"type": "string", "enum": ["bridge", "none"], "default": "bridge"}, "Its network."
    ),
    "exclusive": Field(
        _flag, {"type": "boolean", "default": False}, "Never two live copies, even after a node is lost."
    ),
    "ttl_after_finished": Field(parse_duration, _TIME_SCHEMA, "Delete the job this long after it finished."),
}


def parse_spec(raw: object) -> JobSpec | list[FieldError]:
    """What a user wrote as a JobSpec, or every fault in it."""
    try:
        given = _read(FIELDS, raw, "the job's fields")
    except _Faults as faults:
        return faults.errors
    except ValueError as fault:
        return [FieldError("", str(fault), _short(raw))]
    if "driver" not in given:
        given["driver"] = Driver.DOCKER if "image" in given else Driver.PROCESS
    spec = JobSpec(**given)
    errors = list(_contradictions(spec, given))
    return errors or spec


def _contradictions(spec: JobSpec, given: Mapping[str, Any]) -> Iterator[FieldError]:
    """Faults that take two fields to see."""
    needs, driver = spec.resources, spec.driver
    if needs.memory_max is not None and needs.memory_max < needs.memory:
        yield FieldError(
            "resources.memory_max",
            f"is below memory ({show_size(needs.memory)}); raise it or lower memory",
            show_size(needs.memory_max),
        )
    if driver is Driver.DOCKER and spec.image is None:
        yield FieldError("image", "is missing: the docker driver needs one")
    if driver is Driver.PROCESS:
        if spec.command is None:
            yield FieldError("command", "is missing: with no image there is nothing to run; name an image or a command")
        for name in ("image", "user", "volumes"):
            if given.get(name):
                yield FieldError(name, "needs the docker driver; drop it, or drop driver: process", _short(given[name]))
        if given.get("network") == "none":
            yield FieldError("network", "none needs the docker driver; a process shares the node's network", "none")


def spec_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a job's spec as users write it, for OpenAPI 3.1 and editors."""
    return _object(FIELDS) | {
        "title": "JobSpec",
        "description": "What is asked. One of image and command is needed.",
        "examples": [
            {"image": "ubuntu", "command": ["bash", "-c", "ls -la && echo done"]},
            {
                "image": "python:3.12-slim",
                "command": ["python3", "-c", "print(6 * 7)"],
                "resources": {"cpu": "500m", "memory": "256Mi"},
                "attempt_timeout": "5m",
                "labels": {"team": "data"},
            },
        ],
    }


assert [f.name for f in fields(JobSpec)] == list(FIELDS), "the table and the dataclass name the same fields"
