"""The papers of a support bundle: collected as they are, then freed of secrets, bounded, and packed into one archive.

Nothing leaves this file that did not pass the redactor, and nothing is cut before it did.
"""

import gzip
import io
import tarfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from windlass.core.quantity import show_size
from windlass.doctor.redact import Redactor

#: Bytes of one paper and of all, behind the redactor; letters of one before it.
MOST, MOST_OF_ALL, MOST_RAW = 2**20, 24 * 2**20, 4 * 2**20


class Paper(Struct, frozen=True):
    """One file of the bundle. `cut` says what is missing from it; empty: nothing."""

    name: str
    what: str
    bytes: int
    cut: str = ""


class LeftOut(Struct, frozen=True):
    """What is not in the bundle, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class _Raw:
    name: str
    what: str
    content: Any
    newest_last: bool
    cut: str


class Papers:
    """A bundle in the making. `put` in the order of worth: what comes last is left out first."""

    def __init__(self) -> None:
        self._raw: list[_Raw] = []
        self.left_out: list[LeftOut] = []
        self.secrets: set[str] = set()

    def put(self, name: str, what: str, content: Any, *, newest_last: bool = False, cut: str = "") -> None:
        """Add a paper: a text, rows for a name that ends in .jsonl, or a value for one in .json. Of a text or of rows
        that are too long the end is kept where the newest is last, else the beginning."""
        self._raw.append(_Raw(name, what, content, newest_last, cut))

    def without(self, what: str, why: object) -> None:
        """Say that something is not there."""
        self.left_out.append(LeftOut(what, str(why) or type(why).__name__))

    def add(self, other: "Papers") -> None:
        """All that another one holds."""
        self._raw += other._raw
        self.left_out += other.left_out
        self.secrets |= other.secrets

    def finished(self, hide: Redactor) -> tuple[list[tuple[Paper, bytes]], list[LeftOut]]:
        """The papers as they may be shown, and what is not among them."""
        hide, left_out, done, total = hide.knowing(self.secrets), list(self.left_out), list[tuple[Paper, bytes]](), 0
        for raw in self._raw:
            content, cut = _shown(raw, hide)
            if total + len(content) > MOST_OF_ALL:
                left_out.append(LeftOut(raw.name, f"the bundle would be over {show_size(MOST_OF_ALL)}"))
                continue
            total += len(content)
            done.append((Paper(raw.name, raw.what, len(content), "; ".join(filter(None, (raw.cut, cut)))), content))
        return done, [LeftOut(hide.text(one.what), hide.text(one.why)) for one in left_out]


def _shown(raw: _Raw, hide: Redactor) -> tuple[bytes, str]:
    """The content without secrets and within its bounds, and what is missing from it."""
    if isinstance(raw.content, str):
        text, cut = _bounded_text(raw.content, raw.newest_last)
        lines = hide.text(text).encode(errors="replace").splitlines(keepends=True)
    elif raw.name.endswith(".jsonl"):
        cut = ""
        lines = [msgspec.json.encode(hide.value(plain(row))) + b"\n" for row in raw.content]
    else:
        content = msgspec.json.format(msgspec.json.encode(hide.value(plain(raw.content)))) + b"\n"
        too_large = b'{"left_out": "too large"}\n'
        return (content, "") if len(content) <= MOST else (too_large, f"all of its {show_size(len(content))}")
    kept = _bounded_lines(lines, raw.newest_last)
    if len(kept) < len(lines):
        cut = f"{len(lines) - len(kept)} lines at its {'beginning' if raw.newest_last else 'end'}"
    return b"".join(kept), cut


def _bounded_text(text: str, newest_last: bool) -> tuple[str, str]:
    """No more than the redactor has time for. The cut is at the end of a line, and far from what is kept of it."""
    if len(text) <= MOST_RAW:
        return text, ""
    some = text[-MOST_RAW:].partition("\n")[2] if newest_last else text[:MOST_RAW].rpartition("\n")[0] + "\n"
    return some, f"{len(text) - len(some)} letters"


def _bounded_lines(lines: list[bytes], newest_last: bool) -> list[bytes]:
    kept, size = list[bytes](), 0
    for line in reversed(lines) if newest_last else lines:
        size += len(line)
        if size > MOST:
            break
        kept.append(line)
    return kept[::-1] if newest_last else kept


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=str)


def packed(folder: str, files: Iterable[tuple[str, bytes]], clock: Callable[[], float] = time.time) -> bytes:
    """A tar.gz of these files, below one folder, which nobody but the user who unpacks it can read."""
    archive, now = io.BytesIO(), int(clock())
    with (
        gzip.GzipFile(fileobj=archive, mode="wb", mtime=now) as pressed,
        tarfile.open(fileobj=pressed, mode="w") as tar,
    ):
        for name, content in files:
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, now
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
