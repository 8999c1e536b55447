"""What every long-running process does with signals and faults, and how its log lines look."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.support import HANG_S
from windlass import service
from windlass.errors import Fenced, SettingsError

#: Waits for its stop; argv[1] is how many seconds it then takes.
SERVER = """
import asyncio, sys
from windlass import service

async def main(stop):
    print("up", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.sleep(float(sys.argv[1]))

service.run(main, forced=lambda: print("forced", flush=True))
"""

FAULTY = """
import logging
from windlass import telemetry
from windlass.settings import Log
import structlog

def fail(password):
    raise OSError("no such luck")

telemetry.configure(Log(format=FORMAT), "api")
try:
    fail("s3cr3t")
except OSError:
    structlog.get_logger("x").error("it_failed", job_id="job_1", exc_info=True)
logging.getLogger("somebody").warning("said %s", "so")
structlog.get_logger("x").debug("too fine")
"""


def start(lingers_s: float) -> subprocess.Popen[str]:
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(lingers_s)], stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "up\n"
    return server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_it_to_stop_and_that_is_a_success(number: signal.Signals) -> None:
    with start(0) as server:
        server.send_signal(number)
        assert server.stdout.read() == "stopping\n"
    assert server.returncode == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with start(60) as server:
        server.send_signal(signal.SIGTERM)
        assert server.stdout.readline() == "stopping\n"
        deadline = time.monotonic() + HANG_S
        while server.poll() is None and time.monotonic() < deadline:
            server.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert server.stdout.read() == "forced\n"
    assert server.returncode == 128 + signal.SIGTERM


def test_one_wish_sent_twice_is_one() -> None:
    with start(0.2) as server:
        server.send_signal(signal.SIGINT)
        assert server.stdout.readline() == "stopping\n"
        server.send_signal(signal.SIGINT)
        assert server.stdout.read() == ""
    assert server.returncode == 0


def failing(*errors: Exception) -> Callable[[asyncio.Event], Awaitable[None]]:
    async def main(_stop: asyncio.Event) -> None:
        raise ExceptionGroup("together", [ValueError("noise"), ExceptionGroup("inner", list(errors))])

    return main


def test_an_error_of_ours_comes_out_of_its_groups() -> None:
    with pytest.raises(SettingsError, match="this one"):
        service.run(failing(SettingsError("this one"), Fenced("later")))


def test_a_strange_error_stays_in_its_group() -> None:
    with pytest.raises(ExceptionGroup, match="together"):
        service.run(failing(OSError("strange")))


def lines(log_format: str) -> list[str]:
    code = FAULTY.replace("FORMAT", repr(log_format))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "s3cr3t" not in done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_json_lines_name_the_event_and_carry_ids_as_fields(log_format: str) -> None:
    failed, foreign = (json.loads(line) for line in lines(log_format))
    assert (failed["event"], failed["level"], failed["role"], failed["job_id"]) == (
        "it_failed",
        "error",
        "api",
        "job_1",
    )
    assert "OSError: no such luck" in failed["exception"]
    assert (foreign["event"], foreign["level"], foreign["logger"]) == ("said so", "warning", "somebody")


def test_the_console_shows_the_same_to_people() -> None:
    text = "\n".join(lines("console"))
    for shown in ("it_failed", "job_id=job_1", "OSError: no such luck", "said so"):
        assert shown in text
    assert "\x1b" not in text
