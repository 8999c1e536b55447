"""The doctor finds each fault on real servers, names the fix, and shows no secret."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis as redis_client

from tests.conftest import Servers
from tests.doctor.sites import found, ledger, site
from tests.ports import reserved_port
from tests.support import HANG_S
from windlass.doctor import clocks, disk, tokens, versions
from windlass.doctor.examine import examine
from windlass.doctor.findings import Finding, Notes, Offset, Severity
from windlass.doctor.site import Role, Site
from windlass.embedded import postgres
from windlass.embedded.folder import DataFolder
from windlass.sources import load

GB = 2**30


@contextmanager
def redis_settings(url: str, **settings: str) -> Iterator[None]:
    with redis_client.Redis.from_url(url) as client:
        before = {name: client.config_get(name)[name] for name in settings}
        for name, value in settings.items():
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


async def test_servers_as_they_should_be(database_url: str, redis_url: str):
    examined = await examine(site(Role.SCHEDULER, database__url=database_url, redis__url=redis_url))
    told = found(examined)
    assert examined.report.worst is not Severity.ERROR
    fine = {"postgresql.fsync", "postgresql.data_checksums", "postgresql.isolation", "postgresql.migrations",
            "redis.policy", "redis.version", "redis.writes", "redis.rights", "clocks.host_postgresql"}  # fmt: skip
    assert {check: told[check].severity for check in fine} == dict.fromkeys(fine, Severity.OK)
    assert told["engine.role"].severity is Severity.SKIPPED


async def test_a_postgresql_that_may_lose_what_it_commits(roomy_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A server of its own, started as nobody should."""
    for name in ("fsync", "full_page_writes", "autovacuum"):
        monkeypatch.setitem(postgres._OPTIONS, name, "off")
    with DataFolder(roomy_folder / "careless server") as folder:
        server = postgres.Postgres(folder)
        try:
            told = await ledger(await server.start())
        finally:
            await server.stop()
    assert {name: told[f"postgresql.{name}"].severity for name in ("fsync", "full_page_writes", "autovacuum")} == {
        "fsync": Severity.ERROR,
        "full_page_writes": Severity.ERROR,
        "autovacuum": Severity.WARNING,
    }
    assert "set fsync = on" in told["postgresql.fsync"].fix


async def test_a_database_without_our_schema(servers: Servers):
    servers.execute("CREATE DATABASE test_doctor_empty")
    try:
        told = await ledger(servers.url_of("test_doctor_empty"))
    finally:
        servers.execute("DROP DATABASE test_doctor_empty WITH (FORCE)")
    assert told["postgresql.migrations"] == Finding(
        "postgresql.migrations", Severity.ERROR, "there is no schema of ours in this database", "run `windlass migrate`"
    )


async def test_a_server_that_is_away_hides_nothing_of_the_others(redis_url: str):
    password = "hunter2-and-more"
    url = f"postgresql://windlass:{password}@127.0.0.1:{reserved_port()}/windlass"
    examined = await examine(site(Role.SCHEDULER, database__url=url, redis__url=redis_url))
    told = found(examined)
    assert told["postgresql.reachable"].severity is Severity.ERROR
    assert told["redis.writes"].severity is Severity.OK
    assert password not in str(examined.report)


async def test_settings_that_are_missing_are_named():
    told = found(await examine(site(Role.SCHEDULER)))
    assert told["postgresql.settings"].fix == "set WINDLASS_DATABASE_URL"
    assert "WINDLASS_REDIS_URL" in told["redis.settings"].fix


async def test_a_redis_that_throws_streams_away(redis_url: str):
    with redis_settings(redis_url, **{"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}):
        told = found(await examine(site(Role.SCHEDULER, redis__url=redis_url)))
    assert told["redis.policy"].severity is Severity.ERROR
    assert "maxmemory-policy noeviction" in told["redis.policy"].fix


async def test_a_redis_that_is_full(redis_url: str):
    with redis_settings(redis_url, maxmemory="1mb"):
        told = found(await examine(site(Role.SCHEDULER, redis__url=redis_url)))
    assert told["redis.writes"].severity is Severity.ERROR
    assert told["redis.memory"].severity is Severity.WARNING


async def test_the_doctor_leaves_nothing_in_redis(redis_url: str):
    await examine(site(Role.SCHEDULER, redis__url=redis_url))
    with redis_client.Redis.from_url(redis_url) as client:
        assert not client.keys("*")


@pytest.mark.parametrize(("role", "severity"), [(Role.WORKER, Severity.ERROR), (Role.ANY, Severity.SKIPPED)])
async def test_an_engine_that_does_not_answer(role: Role, severity: Severity, tmp_path: Path):
    told = found(await examine(site(role, worker__data=str(tmp_path))))
    assert told["engine.reachable"].severity is severity


@pytest.mark.docker
async def test_the_real_engine(tmp_path: Path):
    settings = load(None, {"worker.data": str(tmp_path)})
    examined = await examine(Site(settings, Role.WORKER))
    told = found(examined)
    assert told["engine.limits"].severity is Severity.OK
    assert {"engine.engine", "engine.runc"} <= told.keys()
    assert examined.facts["engine"]["versions"]["engine"]


@pytest.mark.parametrize(
    ("program", "version", "flawed"),
    [
        ("runc", "1.1.11", True),
        ("runc", "1.2.7", True),
        ("runc", "1.2.8", False),
        ("runc", "1.3.3", False),
        ("runc", "1.4.0", False),
        ("containerd", "1.6.37", True),
        ("containerd", "1.7.27", False),
        ("containerd", "2.0.4-rc.1", True),
        ("engine", "28.3.2", True),
        ("engine", "28.1.1", False),
        ("engine", "not a version", False),
    ],
)
def test_versions_with_known_flaws(program: str, version: str, flawed: bool):
    assert bool(list(versions.flaws(program, version))) == flawed


@pytest.mark.parametrize(
    ("ahead", "within", "severity"),
    [
        (0.2, 0.01, Severity.OK),
        (-5, 0.01, Severity.WARNING),
        (5, 4.5, Severity.OK),
        (3600, 0.01, Severity.ERROR),
    ],
)
def test_clocks_apart(ahead: float, within: float, severity: Severity):
    notes = Notes("clocks")
    clocks.examine({"postgresql": Offset(ahead, within)}, notes)
    (finding,) = notes.findings
    assert (finding.check, finding.severity) == ("clocks.host_postgresql", severity)
    assert bool(finding.fix) == (severity is not Severity.OK)


async def test_a_clock_is_measured_between_question_and_answer():
    async def fast() -> float:
        return datetime.now(UTC).timestamp() + 7

    offset = await clocks.measure(fast)
    assert offset.ahead_s == pytest.approx(7, abs=0.1)
    assert offset.within_s < 0.1


@pytest.mark.parametrize(
    ("free", "severity"), [(0.0, Severity.ERROR), (0.01, Severity.WARNING), (0.5, Severity.OK)], ids=str
)
def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, severity: Severity):
    blocks = 100 * GB // 4096
    room = os.statvfs_result((4096, 4096, blocks, int(blocks * free), int(blocks * free), 1000, 500, 500, 0, 255))
    monkeypatch.setattr(disk.os, "statvfs", lambda path: room)
    notes = Notes("disk")
    disk.examine([("worker.data", tmp_path / "not yet there")], notes)
    assert [(finding.check, finding.severity) for finding in notes.findings] == [("disk.room", severity)]


@pytest.mark.parametrize(
    ("content", "mode", "check", "severity"),
    [
        ("wl_short", 0o600, "secrets.file", Severity.ERROR),
        ("x" * 40, 0o644, "secrets.mode", Severity.WARNING),
        ("x" * 40, 0o602, "secrets.mode", Severity.ERROR),
        (None, 0, "secrets.file", Severity.ERROR),
    ],
)
async def test_files_with_secrets(tmp_path: Path, content: str | None, mode: int, check: str, severity: Severity):
    path = tmp_path / "admin-token"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    examined = await examine(site(Role.CLIENT, api__admin_token_file=str(path)))
    told = found(examined)
    assert told[check].severity is severity
    assert str(path) in told[check].what
    assert content is None or content not in str(examined.report)


@dataclass
class Token:
    """As the ledger has it."""

    name: str = "ci"
    role: str = "submitter"
    uses_left: int | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("token", "check"),
    [
        (Token(expires_at=NOW + 3 * DAY), "tokens.expiring"),
        (Token(expires_at=NOW - DAY, last_used_at=NOW - 2 * DAY), "tokens.expired"),
        (Token(role="join"), "tokens.join"),
        (Token(role="admin", created_at=NOW - 200 * DAY), "tokens.unused"),
        (Token(expires_at=NOW + 90 * DAY), "tokens.known"),
        (Token(expires_at=NOW + 3 * DAY, revoked_at=NOW), "tokens.known"),
    ],
)
def test_tokens(token: Token, check: str):
    notes = Notes("tokens")
    tokens.examine([token], NOW, notes)
    assert [finding.check for finding in notes.findings] == [check]


def command(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    told = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
    order = [sys.executable, "-m", "windlass", "doctor", *words]
    return subprocess.run(order, env=told | env, capture_output=True, text=True, timeout=HANG_S, check=False)


@pytest.fixture
def healthy(database_url: str, redis_url: str) -> dict[str, str]:
    return {"WINDLASS_DATABASE_URL": database_url, "WINDLASS_REDIS_URL": redis_url}


def test_the_command_ends_with_0_when_nothing_is_wrong(healthy: dict[str, str]):
    done = command("--role", "scheduler", "-o", "json", **healthy)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["role"], report["counts"].get("error")) == ("scheduler", None)
    assert {"check", "severity", "what", "fix"} == report["findings"][0].keys()


def test_the_command_ends_with_1_and_says_what_to_do(healthy: dict[str, str]):
    done = command(
        "--role", "scheduler", **healthy | {"WINDLASS_REDIS_URL": f"redis://:sesame1@127.0.0.1:{reserved_port()}"}
    )
    assert done.returncode == 1
    assert "redis.reachable" in done.stdout
    assert "fix: see that it runs" in done.stdout
    assert "sesame1" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "says"), [(("--role", "boss"), "no role 'boss'"), (("--data", "/nowhere"), "no servers of `windlass up`")]
)
def test_wrong_usage_is_named(words: tuple[str, str], says: str):
    done = command(*words)
    assert done.returncode == 2
    assert says in done.stderr
