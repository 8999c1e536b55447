"""Answers in the five formats. A View says what a kind of thing looks like in a table."""

import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from windlass.cli.options import Format
from windlass.cli.terminal import STATE_STYLE, paint, printable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """A kind of thing: its columns, the cells of one, and its name for scripts."""

    header: Sequence[str]
    cells: Callable[[T], Sequence[str]]
    name: Callable[[T], str]


def emit(items: Sequence[T], view: View[T], form: Format) -> None:
    """Print a list in this format on stdout."""
    match form:
        case Format.TABLE:
            print("\n".join(table(view.header, [view.cells(item) for item in items])))
        case Format.NAME:
            for item in items:
                print(view.name(item))
        case Format.JSONL:
            for item in items:
                print(msgspec.json.encode(item).decode())
        case _:
            emit_value(list(items), form)


def emit_value(value: object, form: Format) -> None:
    """Print one value as JSON or YAML on stdout."""
    plain: Any = msgspec.to_builtins(value)
    if form is Format.JSONL:
        print(msgspec.json.encode(plain).decode())
    elif form is Format.YAML:
        import yaml

        print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), end="")
    else:
        print(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines under a header; a word that is a state gets its colour."""
    clean = [[printable(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(header, *clean, strict=True)]
    lines = [_line(header, widths, lambda text: paint(text, "bold", sys.stdout))]
    return lines + [_line(row, widths, lambda text: paint(text, STATE_STYLE.get(text), sys.stdout)) for row in clean]


def _line(cells: Sequence[str], widths: Sequence[int], style: Callable[[str], str]) -> str:
    padded = [style(cell) + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def span(seconds: float | None) -> str:
    """A length of time as people read it, in one or two units: 0.4s, 12s, 3m05s, 2h10m, 4d3h."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    for size, unit, small, lesser in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // small:02d}{lesser}"
    return f"{whole}s"


def since(moment: datetime | None, until: datetime | None = None) -> str:
    """The time from a moment until another, or until now."""
    if moment is None:
        return ""
    return span(((until or datetime.now(UTC)) - moment).total_seconds())
