"""What reaches the terminal: data on stdout, talk on stderr, colour only for eyes, nothing a job can steer it with."""

import os
import re
import sys
from typing import BinaryIO, TextIO

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36"}

STATE_STYLE = {
    "queued": "yellow",
    "held": "yellow",
    "blocked": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
    "ready": "green",
    "suspect": "yellow",
    "lost": "red",
}


def coloured(stream: TextIO) -> bool:
    """Whether colour goes to this stream: a terminal that can, and no NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str | None, stream: TextIO) -> str:
    """The text in this style, or as it is where colour is off."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and coloured(stream) else text


def talk(text: str) -> None:
    """A line to the person, on stderr."""
    print(paint(f"windlass: {printable(text)}", "dim", sys.stderr), file=sys.stderr, flush=True)


def complain(lines: list[str], hint: str) -> None:
    """An error on stderr: what it is, and what to do next."""
    for line in lines:
        print(f"{paint('error:', 'red', sys.stderr)} {printable(line)}", file=sys.stderr)
    print(f"{paint('hint:', 'cyan', sys.stderr)} {printable(hint)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text on one line without control characters: names and messages come from other people."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()


# CSI, then the strings (OSC, DCS, SOS, PM, APC) up to BEL or ST, then two- and three-byte escapes, then C1 controls as
# UTF-8, then single controls. Tab, newline and carriage return stay.
_ESCAPES = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|\xc2[\x80-\x9f]"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1b-\x1f\x7f]"
)
_UNFINISHED = re.compile(rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)|\xc2)\Z")
_LONGEST = 4096


class Cleaner:
    """Takes terminal escape sequences out of a stream of bytes, also those cut in two by its pieces."""

    def __init__(self) -> None:
        self._kept = b""

    def clean(self, data: bytes) -> bytes:
        """What may be shown of data; the start of an unfinished sequence is kept for the next call."""
        data = self._kept + data
        cut = _UNFINISHED.search(data)
        # An endless "sequence" is text with an ESC before it: holding it back would swallow the output.
        self._kept = data[cut.start() :] if cut and len(data) - cut.start() <= _LONGEST else b""
        return _ESCAPES.sub(b"", data[: len(data) - len(self._kept)])


class Output:
    """A job's stdout and stderr on ours, byte for byte; cleaned where a terminal reads it, unless raw."""

    def __init__(self, raw: bool) -> None:
        self._targets = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._cleaners = {
            name: Cleaner() for name, target in self._targets.items() if target.isatty() and not raw
        }  # fmt: skip

    def write(self, stream: str, data: bytes) -> None:
        """Show a piece at once."""
        target: BinaryIO = self._targets[stream].buffer
        cleaner = self._cleaners.get(stream)
        target.write(cleaner.clean(data) if cleaner else data)
        target.flush()
