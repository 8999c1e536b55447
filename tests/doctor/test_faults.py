"""What hangs, freezes or is closed is a finding, and hides nothing of the rest."""

import os
import threading
from pathlib import Path

import pytest

from tests.doctor.sites import found, ledger, silent, site
from tests.support import HANG_S
from windlass.doctor.examine import examine
from windlass.doctor.findings import Severity
from windlass.doctor.site import Role
from windlass.embedded import postgres
from windlass.embedded.folder import DataFolder


async def test_servers_that_take_a_connection_and_say_nothing(tmp_path: Path):
    """The connections are made: it is the answers that never come."""
    with silent() as port, silent(tmp_path / "docker.sock"):
        flags = {"database__url": f"postgresql://u:hush1@127.0.0.1:{port}/x", "redis__url": f"redis://:hush2@127.0.0.1:{port}",
                 "worker__docker_url": f"unix://{tmp_path}/docker.sock"}  # fmt: skip
        told = found(await examine(site(Role.ANY, **flags)))
    assert told["postgresql.reachable"].severity is Severity.ERROR
    assert told["redis.reachable"].severity is Severity.ERROR
    assert told["engine.reachable"].what == "no Docker Engine answers: no answer within 5 s"


async def test_a_postgresql_that_freezes_under_way(roomy_folder: Path, monkeypatch: pytest.MonkeyPatch):
    with DataFolder(roomy_folder / "freezing server") as folder:
        server = postgres.Postgres(folder)
        try:
            url = await server.start()
            monkeypatch.setattr("windlass.doctor.postgres.ANSWER_S", 0.5)
            monkeypatch.setattr("windlass.store.checkup.SERVER", "SELECT name, setting, pg_sleep(99) FROM pg_settings")
            told = await ledger(url)
        finally:
            await server.stop()
    assert told["postgresql.reachable"].severity is Severity.OK
    assert "no answer within 0.5 s" in told["postgresql.answers"].what


class Closed:
    """A folder that this user may not look into. Root may look into any, so that the system's refusal is played."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path.mkdir()
        real, inside = os.stat, str(path) + "/"

        def stat(where: object, **options: object) -> os.stat_result:
            if str(where).startswith(inside):
                raise PermissionError(13, "Permission denied", str(where))
            return real(where, **options)  # pyright: ignore

        monkeypatch.setattr(os, "stat", stat)
        monkeypatch.setattr(os, "access", lambda where, mode: not (str(where) + "/").startswith(inside))


async def test_a_worker_s_folder_that_is_closed_to_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Closed(tmp_path / "closed", monkeypatch)
    told = found(await examine(site(Role.WORKER, worker__data=str(tmp_path / "closed" / "worker"))))
    assert told["disk.access"].severity is Severity.NOTE
    assert "disk.room" in told


async def test_a_secret_in_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "token")
    told = found(await examine(site(Role.CLIENT, api__admin_token_file=str(tmp_path / "token"))))
    assert "no plain file" in told["secrets.file"].what


async def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("windlass.doctor.aside.ASIDE_S", 0.2)
    answer = threading.Event()
    monkeypatch.setattr("windlass.doctor.disk.os.statvfs", lambda path: answer.wait(HANG_S))
    told = found(await examine(site(Role.WORKER, worker__data=str(tmp_path))))
    answer.set()
    assert told["disk.time"].severity is Severity.ERROR
