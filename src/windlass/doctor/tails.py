"""The ends of the logs that `windlass up` keeps: of its servers and its roles."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from windlass.doctor.papers import MOST, Papers
from windlass.doctor.site import LOGS, Site

#: Logs at most.
MOST_LOGS = 60
ELSEWHERE = "only `windlass up` keeps them in files; add what `journalctl -u UNIT` or `docker-compose logs` tells"


class _Line(msgspec.Struct):
    time: datetime | None = None


def gather(site: Site, since: datetime, papers: Papers) -> None:
    """The tail of each log. Raises OSError where the folder is closed."""
    if site.data is None:
        return papers.without("logs of the roles", ELSEWHERE)
    logs = [*sorted((site.data / LOGS).iterdir()), *_of_watchdogs(site.data)]
    for path in logs[:MOST_LOGS]:
        name = f"logs/{path.parent.name}-{path.name}" if path.parent.name != LOGS else f"logs/{path.name}"
        try:
            if stat.S_ISREG(path.lstat().st_mode) and path.stat().st_mtime >= since.timestamp():
                text, cut = tail(path, since)
                papers.put(name, f"the end of the log {path.name}", text, newest_last=True, cut=cut)
        except OSError as fault:
            papers.without(name, fault)
    if len(logs) > MOST_LOGS:
        papers.without("more logs", f"there are {len(logs)}, of which {MOST_LOGS} are looked at")


def _of_watchdogs(data: Path) -> Iterator[Path]:
    return (path for path in sorted(data.glob("worker*/watchdog.log")) if path.stat().st_size)


def tail(path: Path, since: datetime) -> tuple[str, str]:
    """The whole lines at the end of a file that are not older, and how many bytes before them are not there."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = max(0, size - MOST)
        file.seek(start)
        content = file.read(size - start)
    if start:
        content = content.partition(b"\n")[2]
    kept = _younger(content.decode(errors="replace"), since)
    missing = size - len(kept.encode())
    return kept, f"the {missing} bytes before it" if missing > 0 else ""


def _younger(text: str, since: datetime) -> str:
    """From the first line on that says it is as young; all of it, where no line says when it was written."""
    lines, seen = text.splitlines(keepends=True), False
    for at, line in enumerate(lines):
        try:
            when = msgspec.json.decode(line, type=_Line).time
        except msgspec.MsgspecError:
            continue
        if when is not None and (when if when.tzinfo else when.replace(tzinfo=UTC)) >= since:
            return "".join(lines[at:])
        seen = seen or when is not None
    return "" if seen else text
