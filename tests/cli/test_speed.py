"""Client commands answer quickly, because they load nothing of a server."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND
from tests.cli.stub import Stub, a_job, an_attempt

LIMIT_S = 0.2
LIBRARIES = "anyio, asyncio, httpcore2, httpx2, msgspec, typer"
SERVER_ONLY = {"fastapi", "starlette", "uvicorn", "uvloop", "psycopg", "redis", "aiodocker", "pydantic", "structlog"}
NOT_FOR_A_LIST = {"rich", "yaml", "windlass.core.fields"}


def seconds(*command: str) -> float:
    """Processor time: a client command waits for next to nothing, and other work on the machine counts little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("command", ["ps", "show last", "logs job_1", "submit -f one.yaml", "run -d true", "--version"])
def test_a_client_command_takes_less_than_the_limit(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    """Best of some runs. On a machine so slow or busy that the libraries alone take most of it, they set the limit."""
    stub.jobs = {"job_1": a_job(attempts=[an_attempt()])}
    (tmp_path / "one.yaml").write_text("image: one\n")
    monkeypatch.chdir(tmp_path)
    best = libraries = float("inf")
    for _ in range(12):
        best = min(best, seconds(*COMMAND, *command.split()))
        libraries = min(libraries, seconds(sys.executable, "-c", f"import {LIBRARIES}"))
        if best < LIMIT_S:
            return
    assert best < max(LIMIT_S, 1.4 * libraries)


def test_a_list_loads_no_server_and_nothing_it_does_not_print_with(stub: Stub):
    code = "import sys; from windlass.cli.main import main; main(['ps']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not (SERVER_ONLY | NOT_FOR_A_LIST) & set(done.stderr.split())


def test_the_list_of_commands_loads_none_of_them():
    code = "import sys; from windlass.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stderr.split() if name.startswith("windlass.")}
    assert ours == {"windlass.cli", "windlass.cli.main", "windlass.cli.exits", "windlass.cli.terminal"}
