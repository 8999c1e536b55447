"""Exit codes: every row of the table, and an error's two lines."""

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tests.cli.conftest import Cli
from tests.cli.stub import Json, Stub, a_job, an_attempt, ended, problem
from windlass.cli import exits

REFUSALS = [
    (400, exits.Code.USAGE),
    (401, exits.Code.ACCESS),
    (403, exits.Code.ACCESS),
    (404, exits.Code.NOT_FOUND),
    (409, exits.Code.CONFLICT),
    (413, exits.Code.LIMIT),
    (422, exits.Code.USAGE),
    (429, exits.Code.LIMIT),
    (500, exits.Code.SYSTEM),
    (503, exits.Code.SYSTEM),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
def test_a_refusal_has_its_code_and_two_lines(stub: Stub, cli: Cli, status: int, code: int):
    # A wait this long is not worth repeating the call for: the refusal is told at once.
    stub.fail = lambda request: problem(status, "told by the server", Retry_After="3600")
    done = cli("show", "job_1")
    assert (done.code, done.out) == (code, "")
    error, hint = done.err.splitlines()
    assert error.startswith("error: told by the server")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("url", ["postgresql://x@127.0.0.1:1/x", "postgresql://x@no-such-host.invalid/x"])
def test_a_ledger_that_is_away_is_told_in_two_lines(cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("WINDLASS_DATABASE_URL", url)
    done = cli("migrate")
    assert (done.code, done.out) == (exits.Code.UNREACHABLE, "")
    error, hint = done.err.splitlines()
    assert error.startswith("error: database.url: ")
    assert "PostgreSQL" in hint


def test_each_refused_field_has_its_line(stub: Stub, cli: Cli):
    done = cli("run", "--cpu", "lots", "--", "true")
    assert done.code == exits.Code.USAGE
    assert done.err.splitlines()[0] == "error: resources.cpu: write cores as a number (given: lots)"


def test_nobody_at_home_is_unreachable(stub: Stub, cli: Cli):
    done = cli("ps", "--url", "http://127.0.0.1:1")
    assert done.code == exits.Code.UNREACHABLE
    assert done.err.splitlines()[0] == "error: cannot reach http://127.0.0.1:1: connection refused"
    assert "windlass up" in done.err


def test_somebody_else_at_home_is_said(stub: Stub, cli: Cli):
    stub.fail = lambda request: PlainTextResponse("<html>a router</html>")
    done = cli("ps")
    assert done.code == exits.Code.UNREACHABLE
    assert "does not answer as a Windlass API does" in done.err
    stub.fail = lambda request: PlainTextResponse("<html>no such page</html>", 404)
    done = cli("ps")
    assert done.code == exits.Code.UNREACHABLE
    assert "there is no Windlass API at" in done.err


def test_https_where_there_is_none_is_said(stub: Stub, cli: Cli):
    done = cli("ps", "--url", stub.url.replace("http:", "https:"))
    assert done.code == exits.Code.UNREACHABLE
    assert "no TLS with it" in done.err.splitlines()[0]


def test_a_host_without_an_address_is_said(stub: Stub, cli: Cli):
    done = cli("ps", "--url", "http://no-such-host.invalid")
    assert done.code == exits.Code.UNREACHABLE
    assert "Errno" not in done.err


@pytest.mark.parametrize(
    "args", [("ps", "--bogus"), ("bogus",), ("ps", "--limit", "0"), ("show",), ("run",), ("run", "-e", "=x", "a"),
             ("ps", "--url", "nonsense"), ("wait", "job_1", "--timeout", "soon"), ("submit", "-f", "/no/such/file")]
)  # fmt: skip
def test_wrong_usage(stub: Stub, cli: Cli, args: tuple[str, ...]):
    done = cli(*args)
    assert done.code == exits.Code.USAGE
    assert done.err.startswith("error: ")
    assert done.err.splitlines()[-1].startswith("hint: ")
    assert done.out == ""


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (a_job(state="succeeded"), 0),
        (a_job(state="cancelled"), 130),
        (a_job(state="failed"), 125),
        (a_job(state="failed", attempts=[an_attempt(state="failed", exit_code=255, cause="exit_code")]), 255),
        (a_job(state="failed", attempts=[an_attempt(state="failed", exit_code=139, cause="signal")]), 139),
        (a_job(state="failed", attempts=[an_attempt(state="failed", exit_code=137, cause="oom")]), 137),
        (a_job(state="failed", attempts=[an_attempt(state="failed", exit_code=143, cause="timeout")]), 125),
        (a_job(state="failed", attempts=[an_attempt(state="failed", cause="image_pull")]), 125),
        (a_job(state="failed", attempts=[an_attempt(1, "failed", exit_code=3, cause="exit_code"),
                                         an_attempt(2, "lost", cause="node_lost")]), 125),
        (a_job(state="failed", attempts=[an_attempt(2, "failed", exit_code=4, cause="exit_code"),
                                         an_attempt(1, "failed", exit_code=3, cause="exit_code")]), 4),
    ],
)  # fmt: skip
def test_wait_passes_on_how_the_job_ended(stub: Stub, cli: Cli, job: Json, code: int):
    stub.jobs = {job["id"]: job}
    done = cli("wait", job["id"])
    assert (done.code, done.out) == (code, "job_1\n")
    assert ("job_1" in done.err) == (job["state"] != "succeeded")


def test_wait_for_several_gives_the_first_failure_in_order(stub: Stub, cli: Cli):
    for n, code in enumerate([0, 7, 9], 1):
        stub.become = ended(code)
        stub.submit({})
        assert n == len(stub.jobs)
    assert cli("wait", "job_1", "job_3", "job_2").code == 9


def test_wait_ends_after_its_time(stub: Stub, cli: Cli):
    stub.jobs = {"job_1": a_job(state="running")}
    done = cli("wait", "job_1", "--timeout", "100ms")
    assert done.code == exits.Code.TIMEOUT
    assert "job_1 is still running" in done.err


def test_several_ids_are_all_tried_and_the_first_failure_counts(stub: Stub, cli: Cli):
    stub.jobs = {"job_1": a_job("job_1", "running"), "job_3": a_job("job_3")}
    done = cli("retry", "job_1", "job_3")
    assert (done.code, done.out) == (exits.Code.CONFLICT, "job_3\n")
    assert "error: job_1 is running\n" in done.err
    assert "windlass show job_1" in done.err


def test_cancel_and_rm(stub: Stub, cli: Cli):
    stub.jobs = {"job_1": a_job("job_1", "running")}
    assert cli("cancel", "last").out == "job_1\n"
    assert stub.jobs["job_1"]["state"] == "cancelled"
    assert cli("rm", "job_1").code == 0
    assert stub.jobs == {}


def flaky(times: int, answer: Callable[[], Response]) -> Callable[[Request], Response | None]:
    left = [times]

    def fail(request: Request) -> Response | None:
        left[0] -= 1
        return answer() if left[0] >= 0 else None

    return fail


def test_what_is_safe_to_repeat_is_repeated(stub: Stub, cli: Cli):
    stub.fail = flaky(2, lambda: problem(503, "not now"))
    assert cli("run", "-d", "--", "true").out == "job_1\n"
    keys = [headers["idempotency-key"] for method, _, headers, _ in stub.requests if method == "POST"]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize("args", [("retry", "job_1"), ("rm", "job_1")])
def test_what_is_not_safe_to_repeat_is_not(stub: Stub, cli: Cli, args: tuple[str, ...]):
    stub.jobs = {"job_1": a_job()}
    stub.fail = flaky(1, lambda: problem(503, "not now"))
    assert cli(*args).code == exits.Code.SYSTEM
    assert len(stub.requests) == 1


def test_the_table_is_in_the_help_and_in_the_docs(cli: Cli):
    shown = cli("--help").out
    docs = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    for code, meaning in exits.MEANING.items():
        assert f"{code:>4}  {meaning}" in shown
        assert f"| {code.value} | {meaning} |" in docs
