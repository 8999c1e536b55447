"""What was found: one line each, how bad it is, and what to do."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct


class Severity(StrEnum):
    """How bad it is. An error breaks a promise or stops the work, now; a warning will, or lowers the guard; a note is
    for who wants to know; what was skipped could not be looked at, or is nothing of this host's."""

    OK = "ok"
    SKIPPED = "skipped"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Finding(Struct, frozen=True):
    """One thing that was looked at. `check` is AREA.NAME; `fix` is empty where there is nothing to do."""

    check: str
    severity: Severity
    what: str
    fix: str = ""


class Offset(Struct, frozen=True):
    """How far ahead of this host's clock another one is, and how exactly that is known; in seconds."""

    ahead_s: float
    within_s: float


class Notes:
    """What one examination writes down: findings, facts for the support bundle, and what clocks say."""

    def __init__(self, area: str) -> None:
        self.area = area
        self.findings: list[Finding] = []
        self.facts: dict[str, Any] = {}
        self.clocks: dict[str, Offset] = {}

    def ok(self, check: str, what: str) -> None:
        """It is as it should be."""
        self._add(check, Severity.OK, what, "")

    def skipped(self, check: str, what: str, fix: str = "") -> None:
        """It was not looked at."""
        self._add(check, Severity.SKIPPED, what, fix)

    def note(self, check: str, what: str, fix: str = "") -> None:
        """Worth knowing."""
        self._add(check, Severity.NOTE, what, fix)

    def warn(self, check: str, what: str, fix: str) -> None:
        """Not yet a fault."""
        self._add(check, Severity.WARNING, what, fix)

    def error(self, check: str, what: str, fix: str) -> None:
        """A fault."""
        self._add(check, Severity.ERROR, what, fix)

    def judge(self, check: str, good: bool, fine: str, bad: str, fix: str, severity: Severity = Severity.ERROR) -> None:
        """Ok with `fine`, or this severity with `bad`."""
        self._add(check, *((Severity.OK, fine, "") if good else (severity, bad, fix)))

    def _add(self, check: str, severity: Severity, what: str, fix: str) -> None:
        self.findings.append(Finding(f"{self.area}.{check}", severity, what, fix))


class Report(Struct, frozen=True):
    """All that was found on this host. `worst` is the severity the exit code is by."""

    version: str
    at: str
    host: str
    role: str
    worst: Severity
    counts: Mapping[str, int]
    findings: list[Finding]


def worst(findings: list[Finding]) -> Severity:
    """The greatest severity of all; ok where there are none."""
    order = list(Severity)
    return max((finding.severity for finding in findings), key=order.index, default=Severity.OK)
