"""Client commands load nothing of a server. How quick that makes them is measured by `python -m bench commands`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.stub import Stub, a_job, an_attempt

SERVER_ONLY = {"fastapi", "starlette", "uvicorn", "uvloop", "psycopg", "redis", "aiodocker", "pydantic", "structlog"}
FIELDS = "windlass.core.fields"
#: Each command, and what it must not load beside that of a server.
COMMANDS = {
    "ps": {"rich", "yaml", FIELDS},
    "show last": {"yaml", FIELDS},
    "logs job_1": {"rich", "yaml", FIELDS},
    "submit -f one.yaml": {"rich"},
    "run -d true": {"rich", "yaml"},
    "--version": {"asyncio", "httpx2", "rich", "yaml", FIELDS},
}

TELL = """
import sys
from windlass.cli.main import main
code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def loaded(command: str) -> set[str]:
    """Return the modules that a command has loaded when it ends. Fail when the command fails."""
    done = subprocess.run([sys.executable, "-c", TELL, *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_client_command_loads_no_server_and_nothing_it_does_not_need(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    stub.jobs = {"job_1": a_job(attempts=[an_attempt()])}
    (tmp_path / "one.yaml").write_text("image: one\n")
    monkeypatch.chdir(tmp_path)
    assert loaded(command) & (SERVER_ONLY | COMMANDS[command]) == set()


def test_the_list_of_commands_loads_none_of_them():
    ours = {name for name in loaded("--help") if name.startswith("windlass.")}
    assert ours == {"windlass.cli", "windlass.cli.main", "windlass.cli.exits", "windlass.cli.terminal"}
