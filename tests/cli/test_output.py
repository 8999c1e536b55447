"""Formats: what reaches stdout in each, and that nothing else does."""

import json

import pytest
import yaml

from tests.cli.conftest import Cli
from tests.cli.stub import Stub, a_job, an_attempt


def hold(stub: Stub, *jobs: dict) -> None:
    stub.jobs = {job["id"]: job for job in jobs}


def test_ps_prints_a_table_newest_first(stub: Stub, cli: Cli):
    hold(stub, a_job("job_1", name="first"), a_job("job_2", "failed", [an_attempt(state="failed", exit_code=3)]))
    done = cli("ps")
    header, second, first = done.out.splitlines()
    assert header.split() == ["ID", "NAME", "STATE", "TRIES", "EXIT", "NODE", "RAN", "AGE"]
    assert second.split()[:7] == ["job_2", "-", "failed", "1", "3", "n1", "1.5s"]
    assert first.split()[:3] == ["job_1", "first", "succeeded"]
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("form", "parse"),
    [
        ("json", json.loads),
        ("yaml", yaml.safe_load),
        ("jsonl", lambda text: [json.loads(line) for line in text.splitlines()]),
    ],
)
def test_ps_in_each_format_holds_the_same_jobs(stub: Stub, cli: Cli, form: str, parse):
    hold(stub, a_job("job_1", labels={"team": "data"}), a_job("job_2", "running"))
    jobs = parse(cli("ps", "-o", form).out)
    assert [(job["id"], job["state"], job["labels"]) for job in jobs] == [
        ("job_2", "running", {}),
        ("job_1", "succeeded", {"team": "data"}),
    ]


def test_ps_by_name_prints_ids_only(stub: Stub, cli: Cli):
    hold(stub, a_job("job_1"), a_job("job_2"))
    assert cli("ps", "-o", "name").out == "job_2\njob_1\n"


def test_ps_filters_by_state_and_labels(stub: Stub, cli: Cli):
    hold(
        stub,
        a_job("job_1", labels={"team": "data", "tier": "a/b"}),
        a_job("job_2", labels={"team": "data"}),
        a_job("job_3", "failed", labels={"team": "data", "tier": "a/b"}),
    )
    found = cli("ps", "-o", "name", "--state", "succeeded", "-l", "team=data", "-l", "tier=a/b")
    assert found.out == "job_1\n"


@pytest.mark.parametrize(("args", "count"), [(("--limit", "70"), 70), (("--all",), 120), ((), 50)])
def test_ps_reads_as_many_pages_as_it_needs(stub: Stub, cli: Cli, args: tuple[str, ...], count: int):
    hold(stub, *(a_job(f"job_{n}") for n in range(120)))
    assert len(cli("ps", "-o", "name", *args).out.splitlines()) == count


def test_show_tells_a_job_and_its_attempts(stub: Stub, cli: Cli):
    attempts = [
        an_attempt(1, "failed", exit_code=137, cause="oom", message="limit 16Mi"),
        an_attempt(2, "failed", exit_code=3, cause="exit_code"),
    ]
    spec = {"image": "ubuntu", "command": ["bash", "-c", "exit 3"], "max_retries": 1}
    hold(stub, a_job("job_1", "failed", attempts, spec=spec))
    shown = cli("show", "last").out
    assert "bash -c 'exit 3'" in shown
    assert "job_1 failed after 2 attempts: exit code 3" in shown
    assert "out of memory: limit 16Mi" in shown


def test_show_neutralises_what_others_wrote(stub: Stub, cli: Cli):
    attempts = [an_attempt(1, "failed", cause="start_failed", message="no\n\x1b]0;owned\x07such")]
    hold(stub, a_job("job_1", "failed", attempts, name="a\x1b[2Jb"))
    shown = cli("show", "job_1").out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "a [2Jb" in shown


def test_why_gives_each_node_its_reasons(stub: Stub, cli: Cli):
    fits = [
        {"node": "n1", "fits": False, "reasons": ["cpu: needs 4, free 1.5", "memory: needs 2Gi, free 1Gi"]},
        {"node": "n2", "fits": True, "reasons": []},
    ]
    hold(stub, a_job("job_1", "queued", reason="no node has 4 cores free", explanation=fits, ahead=7))
    told = cli("why", "job_1").out.splitlines()
    assert told[0] == "job_1 is queued: no node has 4 cores free"
    assert told[3].split(maxsplit=2) == ["n1", "no", "cpu: needs 4, free 1.5; memory: needs 2Gi, free 1Gi"]
    assert told[4].split() == ["n2", "yes", "-"]


def test_nodes_prints_what_is_used(stub: Stub, cli: Cli):
    amounts = {"capacity": {"cpu": 4, "memory": 2**33}, "used": {"cpu": 1.5, "memory": 2**30}}
    stub.nodes = [{"id": "node_1", "name": "n1", "state": "ready", "drivers": ["docker", "process"], "attempts": 2}]
    stub.nodes[0] |= amounts
    row = cli("nodes").out.splitlines()[1].split()
    assert row[:6] == ["n1", "ready", "docker,process", "1.5/4", "1Gi/8Gi", "2"]


def test_version_asks_the_server(stub: Stub, cli: Cli):
    assert cli("version").out.splitlines()[1] == "server 9.9.9"


def test_a_token_is_sent_and_only_when_set(stub: Stub, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    cli("ps")
    monkeypatch.setenv("WINDLASS_TOKEN", "s3cret")
    cli("ps")
    assert [headers.get("authorization") for _, _, headers, _ in stub.requests] == [None, "Bearer s3cret"]


def test_url_is_taken_before_and_after_the_command(stub: Stub, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    url = stub.url
    monkeypatch.setenv("WINDLASS_URL", "http://127.0.0.1:1")
    assert cli("ps", "--url", url).code == 0
    assert cli("--url", url, "ps").code == 0
