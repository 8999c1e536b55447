"""What the command line's tests share: a stub server, and one command line run in this process or in one of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.cli.stub import Serving, Stub
from windlass.cli.main import main

COMMAND = (sys.executable, "-c", "from windlass.cli.main import run; run()")


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def serving() -> Iterator[Stub]:
    stub = Stub()
    with Serving(stub):
        yield stub


@pytest.fixture
def stub(serving: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    serving.clear()
    monkeypatch.setenv("WINDLASS_URL", serving.url)
    monkeypatch.delenv("WINDLASS_TOKEN", raising=False)
    return serving


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """One command line in this process."""

    def call(*args: str) -> Result:
        capfd.readouterr()
        code = main(list(args))
        sys.stdout.flush()
        return Result(code, *capfd.readouterr())

    return call


def start(*args: str, **options: object) -> subprocess.Popen[bytes]:
    """One command line in a process of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*COMMAND, *args], **{"stdout": pipe, "stderr": pipe, "stdin": subprocess.DEVNULL} | options
    )
