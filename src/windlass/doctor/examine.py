"""The whole examination: what concerns this host's role is looked at, all at once, and put in order."""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from windlass import __version__
from windlass.doctor import api, clocks, disk, engine, files, postgres, probe, streams
from windlass.doctor.aside import aside
from windlass.doctor.findings import Notes, Offset, Report, worst
from windlass.doctor.redact import Redactor, redactor
from windlass.doctor.site import Role, Site
from windlass.doctor.ways import ways_of
from windlass.errors import SettingsError

#: Seconds for each area, however badly a server behaves.
AREA_S = 30.0
#: The areas each role needs; the others are not looked at.
NEEDS = {
    Role.API: {"postgresql", "redis"},
    Role.SCHEDULER: {"postgresql", "redis"},
    Role.WORKER: {"redis", "engine", "api"},
    Role.CLIENT: {"api"},
}
ORDER = ("postgresql", "redis", "engine", "api", "clocks", "disk", "secrets", "tokens", "probe")


@dataclass(slots=True)
class Examined:
    """What an examination gave: the report, facts by area, and what takes secrets out of anything else."""

    report: Report
    facts: dict[str, Any]
    hide: Redactor
    notes: dict[str, Notes] = field(default_factory=dict[str, Notes])


class _Round:
    """One examination under way."""

    def __init__(self, site: Site) -> None:
        self.site, self.settings, self.role = site, site.settings, site.role
        self.notes = {area: Notes(area) for area in ORDER}
        self.secrets = files.secret_files(site.settings, site.config)
        self.ways = ways_of(site)
        self.engine_root: Path | None = None

    def needed(self, area: str) -> bool:
        """Whether the role can't do without it."""
        return area in NEEDS.get(self.role, set())

    def looked_at(self, area: str) -> bool:
        """Whether it is this role's at all."""
        if self.role is Role.ANY or self.needed(area):
            return True
        self.notes[area].skipped("role", f"nothing of the role {self.role}")
        return False

    async def postgresql(self) -> None:
        """The ledger."""
        if not self.looked_at("postgresql"):
            return
        notes = self.notes["postgresql"]
        if not self.settings.database.url:
            return self._unset("postgresql", "database.url is not set", "set WINDLASS_DATABASE_URL")
        await postgres.examine(self.settings.database, notes)

    async def redis(self) -> None:
        """The streams; a worker's with its own login."""
        if not self.looked_at("redis"):
            return
        url, login = self.ways.redis_url, self.ways.login
        if not url:
            return self._unset(
                "redis", "redis.url is not set", "set WINDLASS_REDIS_URL, or join: windlass worker --join"
            )
        makes_users = self.role is Role.API or (self.role is Role.ANY and not login)
        await streams.examine(url, self.settings.cluster, self.notes["redis"], login=login, makes_users=makes_users)

    async def engine(self) -> None:
        """The Docker Engine."""
        if not self.looked_at("engine"):
            return
        if "docker" not in self.settings.worker.drivers:
            return self.notes["engine"].skipped("reachable", "worker.drivers has no docker")
        needed = self.needed("engine") or bool(self.ways.nodes)
        self.engine_root = await engine.examine(self.settings.worker.docker_url, needed, self.notes["engine"])

    async def api(self) -> None:
        """The API, by the URL and the token of this role."""
        if not self.looked_at("api"):
            return
        ways = self.ways
        needed = self.needed("api") or ways.api_named
        try:
            await api.examine(ways.api_url, ways.ca_file, ways.token(), needed, self.notes["api"], self.notes["tokens"])
        except ValueError as fault:
            self.notes["api"].error(
                "settings", str(fault), "see WINDLASS_URL, WINDLASS_TOKEN_FILE and WINDLASS_CA_FILE"
            )

    async def disk(self) -> None:
        """The folders of this host, and the engine's."""
        ours: list[tuple[str, Path]] = []
        if self.ways.nodes or self.role is Role.WORKER:
            ours.append(("worker.data", self.settings.worker.data))
        if self.site.data is not None:
            ours.append(("the data folder", self.site.data))
        theirs = [("the Docker Engine", self.engine_root)] if self.engine_root else []
        notes = self.notes["disk"]
        await aside(lambda: disk.examine([*theirs, *ours], notes))
        await aside(lambda: disk.examine_access(ours, notes))

    async def kept_secrets(self) -> None:
        """The files with secrets."""
        await aside(lambda: files.examine(self.secrets, self.notes["secrets"]))

    def _unset(self, area: str, what: str, fix: str) -> None:
        if self.needed(area):
            self.notes[area].error("settings", what, fix)
        else:
            self.notes[area].skipped("settings", what, fix)


def hiding(site: Site) -> Redactor:
    """What hides the secrets this host knows."""
    named = files.secret_files(site.settings, site.config).values()
    return redactor(site.settings, [*(path for path in named if path != site.config), *files.client_files()])


async def examine(site: Site) -> Examined:
    """Look at everything that concerns this host. Raises nothing that a server does."""
    one = _Round(site)
    areas = {"postgresql": one.postgresql, "redis": one.redis, "engine": one.engine, "api": one.api}
    await asyncio.gather(*(_guarded(one.notes[area], look()) for area, look in areas.items()))
    found: dict[str, Offset] = {}
    for notes in one.notes.values():
        found |= notes.clocks
    clocks.examine(found, one.notes["clocks"])
    await _guarded(one.notes["disk"], one.disk())
    await _guarded(one.notes["secrets"], one.kept_secrets())
    if site.probe:
        await _guarded(one.notes["probe"], probe.examine(one.ways, site.probe, one.notes["probe"]), probe.ALL_S)
    return _result(one)


async def _guarded(notes: Notes, look: Awaitable[None], within_s: float = AREA_S) -> None:
    """One area; whatever goes wrong there is a finding, and the others go on."""
    try:
        await asyncio.wait_for(look, within_s)
    except TimeoutError:
        notes.error("time", "not done in good time", "see whether it is overloaded, or frozen")
    except SettingsError as fault:
        notes.error("settings", str(fault), "correct the setting")
    except Exception as fault:
        notes.error("unforeseen", f"{type(fault).__name__}: {fault}", "see that server's log")


def _result(one: _Round) -> Examined:
    hide = hiding(one.site)
    findings = [
        msgspec.structs.replace(finding, what=hide.text(finding.what), fix=hide.text(finding.fix))
        for area in ORDER
        for finding in one.notes[area].findings
    ]
    counts = dict(Counter(str(finding.severity) for finding in findings))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    report = Report(__version__, at, socket.gethostname(), one.role, worst(findings), counts, findings)
    facts = hide.value({area: one.notes[area].facts for area in ORDER if one.notes[area].facts})
    return Examined(report, facts, hide, one.notes)
