"""Readers of single values: each takes what a user wrote and gives what the spec holds, or raises with the fix."""

import difflib
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from windlass.core.spec import FieldError

ENV_LIMIT = 128 * 1024
LABEL_LIMIT = 64
#: More faults of one object than this are not looked for: nobody reads them, and looking takes time.
FAULTS_LIMIT = 20

Parser = Callable[[object], Any]


class Faults(Exception):
    """Faults inside a nested value, with paths relative to it."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the table: how a field is read, and how it is described."""

    parse: Parser
    schema: Mapping[str, Any]
    doc: str


def text(pattern: str, fix: str, limit: int) -> Parser:
    shape = re.compile(pattern, re.ASCII | re.DOTALL)

    def parse(value: object) -> str:
        if not isinstance(value, str) or not shape.fullmatch(value) or len(value) > limit:
            raise ValueError(fix)
        clean(value)
        return value

    return parse


def clean(value: str) -> None:
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode (no lone surrogates)") from None


def words(value: object) -> tuple[str, ...]:
    words = cast("list[object]", value)
    if not isinstance(value, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError('must be a non-empty list of strings, such as ["bash", "-c", "echo done"]')
    strings = cast("list[str]", words)
    for word in strings:
        clean(word)
    return tuple(strings)


def whole(low: int, high: int) -> Parser:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


def real(low: float, high: float) -> Parser:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return parse


def positive(parse_number: Parser) -> Parser:
    def parse(value: object) -> Any:
        number = parse_number(value)
        if number <= 0:
            raise ValueError("must be more than 0")
        return number

    return parse


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def one_of(*choices: str) -> Parser:
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


def env(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('must be a map of names to strings, such as {"MODE": "fast"}')
    env = cast("dict[str, object]", value)
    for name, content in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise Faults(
                [FieldError(short(name), "a variable's name starts with a letter or _, then letters, digits, _ . -")]
            )
        if not isinstance(content, str):
            raise Faults([FieldError(name, f'must be a string; write "{short(content)}" in quotes', short(content))])
        try:
            clean(content)
        except ValueError as fault:
            raise Faults([FieldError(name, str(fault), short(content))]) from None
    strings = cast("dict[str, str]", env)
    size = sum(len(n.encode()) + len(c.encode()) + 2 for n, c in strings.items())
    if size > ENV_LIMIT:
        raise ValueError(f"is {size} bytes; the limit is {ENV_LIMIT} (128 KiB): pass large input as a file or volume")
    return strings


def labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('must be a map of strings, such as {"team": "data"}')
    labels = cast("dict[str, object]", value)
    if len(labels) > LABEL_LIMIT:
        raise ValueError(f"has {len(labels)} entries; the limit is {LABEL_LIMIT}")
    for key, content in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise Faults(
                [FieldError(short(key), "a key is up to 63 letters, digits, - _ . and may have a dns prefix/")]
            )
        if not isinstance(content, str) or not _LABEL_VALUE.fullmatch(content):
            raise Faults([FieldError(key, "a value is up to 63 letters, digits, - _ .", short(content))])
    return cast("dict[str, str]", labels)


def container_path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 4096:
        raise ValueError('must be an absolute path, such as "/work"')
    clean(value)
    return posixpath.normpath(value)


def read(table: Mapping[str, Field], raw: object, what: str) -> dict[str, Any]:
    """The fields given in raw, parsed; raises Faults with what is wrong, the first FAULTS_LIMIT of it."""
    if not isinstance(raw, dict):
        raise ValueError(f"must be an object with fields such as {', '.join(list(table)[:3])}; see {what}")
    parsed: dict[str, Any] = {}
    errors: list[FieldError] = []
    for key, value in cast("dict[str, object]", raw).items():
        if len(errors) >= FAULTS_LIMIT:
            break
        row = table.get(key)
        if row is None:
            errors.append(FieldError(short(key), _unknown(key, table)))
        elif value is not None:
            try:
                parsed[key] = row.parse(value)
            except Faults as nested:
                errors += [FieldError(_join(key, e.field), e.message, e.value) for e in nested.errors]
            except ValueError as fault:
                errors.append(FieldError(key, str(fault), short(value)))
    if errors:
        raise Faults(errors)
    return parsed


def _join(key: str, inner: str) -> str:
    return f"{key}{inner}" if inner.startswith("[") else f"{key}.{inner}"


def _unknown(key: str, table: Mapping[str, Field]) -> str:
    near = difflib.get_close_matches(key, table, n=1)
    return f"is not a field; did you mean {near[0]!r}?" if near else f"is not a field; known: {', '.join(table)}"


def short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
