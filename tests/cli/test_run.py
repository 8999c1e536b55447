"""`run`: output on its own stream, talk on stderr, the job's code as ours, and what a signal does."""

import asyncio
import json
import os
import pty
import signal

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.cli.conftest import Cli, start
from tests.cli.stub import Stub, a_job, an_attempt, chunk, ended
from tests.support import HANG_S, wait_until
from windlass.cli.main import main
from windlass.cli.terminal import Cleaner


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_run_passes_on_the_jobs_code(stub: Stub, cli: Cli, code: int):
    stub.become = ended(code)
    stub.output = [chunk(b"to out\n"), chunk(b"to err\n", "stderr")]
    done = cli("run", "--quiet", "--", "anything")
    assert (done.code, done.out) == (code, "to out\n")
    assert "to err\n" in done.err


@pytest.mark.parametrize(
    ("cause", "message", "said"),
    [
        ("image_pull", "no such image: nope", "the image could not be pulled: no such image: nope"),
        ("timeout", "ran longer than 5 s", "time limit: ran longer than 5 s"),
        ("oom", "killed: out of memory (its limit is 16Mi)", "killed: out of memory (its limit is 16Mi)"),
    ],
)
def test_a_job_with_no_code_of_its_own_gives_125_and_the_cause(
    stub: Stub, cli: Cli, cause: str, message: str, said: str
):
    stub.become = ended(None, cause, message=message)
    done = cli("run", "-i", "nope")
    assert done.code == 125
    assert done.err.splitlines()[-1] == f"windlass: job_1 failed: {said}"


def test_the_flags_make_the_spec(stub: Stub, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PASSED_ON", "yes=no")
    done = cli(
        "run", "-d", "--image", "ubuntu", "--cpu", "500m", "--memory", "1Gi", "-e", "A=b=c", "-e", "PASSED_ON",
        "--name", "n", "-l", "team=data", "--queue", "q", "--priority", "0", "--max-retries", "0", "--timeout", "90s",
        "-w", "/x", "-u", "1000:1000", "--network", "none", "-v", "/data:/in:ro", "--",
        "sh", "-c", "echo $A", "--cpu", "9",
    )  # fmt: skip
    assert (done.code, done.out, done.err) == (0, "job_1\n", "")
    assert json.loads(stub.seen("POST", "/v1/jobs")[0]) == {
        "image": "ubuntu",
        "command": ["sh", "-c", "echo $A", "--cpu", "9"],
        "resources": {"cpu": "500m", "memory": "1Gi"},
        "env": {"A": "b=c", "PASSED_ON": "yes=no"},
        "name": "n",
        "labels": {"team": "data"},
        "queue": "q",
        "priority": 0,
        "max_retries": 0,
        "attempt_timeout": "90s",
        "workdir": "/x",
        "user": "1000:1000",
        "network": "none",
        "volumes": [{"source": "/data", "target": "/in", "read_only": True}],
    }


def test_the_command_needs_no_dashes(stub: Stub, cli: Cli):
    cli("run", "-d", "python3", "-c", "pass")
    assert json.loads(stub.seen("POST", "/v1/jobs")[0]) == {"command": ["python3", "-c", "pass"]}


def test_output_is_passed_on_byte_for_byte(stub: Stub, capfdbinary: pytest.CaptureFixture[bytes]):
    everything = bytes(range(256)) * 300
    stub.output = [chunk(everything), chunk(b"\x1b[31mred\x1b[0m")]
    assert main(["run", "-q", "--", "x"]) == 0
    assert capfdbinary.readouterr().out == everything + b"\x1b[31mred\x1b[0m"


def test_a_gap_and_a_new_attempt_are_told_on_stderr(stub: Stub, cli: Cli):
    stub.output = [
        chunk(b"one\n"),
        ("gap", {"attempt": 1, "stream": "stdout", "missing": 99, "reason": "over the cap"}),
    ]
    stub.output += [chunk(b"two\n", attempt=2)]
    done = cli("logs", "-f", stub.submit({})["id"])
    assert done.out == "one\ntwo\n"
    assert done.err == "windlass: 99 bytes of stdout missing: over the cap\nwindlass: attempt 2\n"


def test_a_cut_stream_goes_on_where_it_was(stub: Stub, cli: Cli):
    stub.output = [chunk(b"1\n"), chunk(b"2\n"), chunk(b"3\n")]
    stub.cut_after = 2
    done = cli("logs", "--tail", "3", stub.submit({})["id"])
    assert done.out == "1\n2\n3\n"
    assert [headers.get("last-event-id") for *_, headers, _ in stub.requests] == [None, "2"]


def test_why_it_waits_is_told_after_a_while(stub: Stub):
    stub.become = lambda job: job["status"].update(reason="no node has 64 cores")
    process = start("run", "--", "x")
    asyncio.run(wait_until(lambda: stub.jobs, "the submission"))
    assert process.stderr is not None
    assert process.stderr.readline() == b"windlass: job_1 submitted\n"
    assert process.stderr.readline() == b"windlass: queued: no node has 64 cores\n"
    ended(0)(stub.jobs["job_1"])
    assert process.wait(HANG_S) == 0
    assert process.communicate() == (b"", b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job(stub: Stub, number: signal.Signals, code: int):
    stub.become = lambda job: job.update(state="running")
    stub.output = [chunk(b"begun\n")]
    process = start("run", "--", "x")
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out) == (code, b"")
    assert stub.jobs["job_1"]["state"] == "cancelled"
    assert err.decode().splitlines()[1:] == [
        "windlass: cancelling job_1; once more to leave at once",
        "windlass: job_1 was cancelled",
    ]


def test_a_second_signal_leaves_at_once(stub: Stub):
    stub.become = lambda job: job.update(
        state="running", status=job["status"] | {"attempts": [an_attempt(state="running")]}
    )
    stub.output = [chunk(b"begun\n")]
    process = start("run", "--", "x")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stderr.readline()

    def uncancellable(request: Request) -> Response | None:
        return JSONResponse(stub.jobs["job_1"], 202) if request.url.path.endswith("/cancel") else None

    stub.fail = uncancellable
    process.send_signal(signal.SIGINT)
    assert b"cancelling" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, err) == (130, b"windlass: left; job_1 may still run\n")


def test_a_reader_that_leaves_is_no_error(stub: Stub):
    stub.output = [chunk(b"x" * 60_000) for _ in range(40)]
    stub.jobs = {"job_1": a_job()}
    process = start("logs", "job_1")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    with process:
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


def on_a_terminal(*args: str) -> bytes:
    """What a command writes when its stdout is a terminal."""
    ours, theirs = pty.openpty()
    process = start(*args, stdout=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the terminal's way of saying that its last writer left
        pass
    process.communicate(timeout=HANG_S)
    os.close(ours)
    return shown.replace(b"\r\n", b"\n")


NASTY = [b"a\x1b]0;own", b"ed\x07b\x1b[2", b"Jc\x1b[31md\x08\xc2", b"\x9be\xc3\xa9\tf\n", b"\x1bPq\x1b\\g\x1b(Bh\n"]


def test_a_terminal_gets_no_escape_sequences_of_a_job(stub: Stub):
    stub.jobs, stub.output = {"job_1": a_job()}, [chunk(piece) for piece in NASTY]
    assert on_a_terminal("logs", "job_1").decode().expandtabs(1) == "abcdeé f\ngh\n"
    assert on_a_terminal("logs", "--raw", "job_1") == b"".join(NASTY)


def test_colour_is_for_terminals_without_no_color(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    stub.jobs = {"job_1": a_job()}
    assert b"\x1b[32msucceeded" in on_a_terminal("ps")
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b" not in on_a_terminal("ps")


def test_an_endless_escape_holds_nothing_back():
    cleaner = Cleaner()
    shown = b"".join(cleaner.clean(piece) for piece in [b"\x1b]", *[b"text " * 100] * 20])
    assert shown.count(b"text ") >= 1900
