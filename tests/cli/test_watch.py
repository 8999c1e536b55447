"""--watch and completion."""

import asyncio
import json
import os
import signal
import subprocess

from tests.cli.conftest import COMMAND, start
from tests.cli.stub import Stub, a_job
from tests.support import HANG_S, wait_until


def test_a_pipe_gets_each_change_as_one_line(stub: Stub):
    stub.jobs = {"job_1": a_job("job_1", "running"), "job_2": a_job("job_2", "queued")}
    process = start("ps", "--watch", "-o", "json")
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [(job["id"], job["state"]) for job in first] == [("job_1", "running"), ("job_2", "queued")]
    stub.jobs["job_2"]["state"] = "running"
    changed = json.loads(process.stdout.readline())
    assert (changed["id"], changed["state"]) == ("job_2", "running")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=HANG_S) == (b"", b"")
    assert process.returncode == 130


def test_watching_one_job_ends_with_it(stub: Stub):
    stub.jobs = {"job_1": a_job("job_1", "running")}
    process = start("show", "--watch", "last", "-o", "name")
    asyncio.run(wait_until(lambda: len(stub.requests) >= 2, "a second look"))
    stub.jobs["job_1"]["state"] = "failed"
    assert process.communicate(timeout=HANG_S)[0] == b"job_1\njob_1\n"
    assert process.returncode == 0


def completed(*words: str) -> list[str]:
    env = {"_WINDLASS_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(COMMAND, env=os.environ | env, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_completion_knows_commands_options_and_live_jobs(stub: Stub):
    stub.jobs = {"job_1": a_job("job_1"), "job_2": a_job("job_2")}
    assert completed("windlass", "s") == ["submit", "show", "status", "scheduler"]
    assert completed("windlass", "ps", "--st") == ["--state"]
    assert completed("windlass", "show", "") == ["job_2", "job_1", "last"]
    assert completed("windlass", "cancel", "job_1", "l") == ["last"]


def test_completion_is_silent_when_nobody_answers(stub: Stub, monkeypatch):
    monkeypatch.setenv("WINDLASS_URL", "http://127.0.0.1:1")
    assert completed("windlass", "show", "") == ["last"]
