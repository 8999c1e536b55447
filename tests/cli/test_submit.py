"""`submit`: what files may hold, and how a refusal finds its line."""

import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.stub import Stub, ended
from windlass.cli.exits import UsageFault
from windlass.cli.specfile import read

DOCUMENTS = """\
# two documents and a list
image: one
---
image: two
resources:
  memory: 1Gi
  cpu: lots
---
- image: three
- image: four
  resources: {cpu: lots}
---
"""


def written(folder: Path, text: str) -> str:
    file = folder / "jobs.yaml"
    file.write_text(text)
    return str(file)


def test_one_document_gives_its_id(stub: Stub, cli: Cli, tmp_path: Path):
    done = cli("submit", "-f", written(tmp_path, "image: one\nenv: {WHEN: 2026-01-02}\n"))
    assert (done.code, done.out, done.err) == (0, "job_1\n", "")
    assert json.loads(stub.seen("POST", "/v1/jobs")[0]) == {"image": "one", "env": {"WHEN": "2026-01-02"}}


def test_each_refusal_names_its_job_and_line(stub: Stub, cli: Cli, tmp_path: Path):
    file = written(tmp_path, DOCUMENTS)
    done = cli("submit", "-f", file)
    assert (done.code, done.out) == (2, "job_1\njob_2\n")
    fault = "resources.cpu: write cores as a number (given: lots)"
    assert done.err.splitlines() == [
        f"error: {file}, job 2, line 7: {fault}",
        f"error: {file}, job 4, line 11: {fault}",
        "hint: correct it and try again",
        "windlass: 2 of 4 jobs were accepted",
    ]


def test_one_refused_document_names_its_line(stub: Stub, cli: Cli, tmp_path: Path):
    file = written(tmp_path, "image: one\n\nresources:\n  cpu: lots\n")
    done = cli("submit", "-f", file)
    assert (done.code, done.out) == (2, "")
    assert f"{file}, job 1, line 4: resources.cpu" in done.err


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"image": "a"}', [1]),
        ('\n{"image": "a"}\n\n{"image": "b"}\n', [2, 4]),
        ('[{"image": "a"},\n {"image": "b"}]', [1, 1]),
        ('\t[{"image": "a", "labels": {"x": "\\/"}}]', [1]),
        ("{image: a, command: [x]}\n", [1]),
        ("image: a\n---\n---\nimage: b\n", [1, 4]),
        ("- image: a\n- image: b\n", [1, 2]),
    ],
)
def test_files_may_be_yaml_json_or_json_lines(text: str, lines: list[int]):
    documents = read(text, "f")
    assert [document.line for document in documents] == lines
    assert [document.number for document in documents] == list(range(1, len(lines) + 1))
    assert [document.spec["image"] for document in documents] == ["a", "b"][: len(lines)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("image: one\n---\nimage: [a\nx: b\n", "f, line 4, column 2: "),
        ('{"image": "a",\n "b" "c"}', "f, line 2, column 6: Expecting ':' delimiter"),
        ("", "f holds no job"),
        ("image: !!python/name:os.system\n", "f, line 1, column 8: could not determine a constructor"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, what: str):
    with pytest.raises(UsageFault) as fault:
        read(text, "f")
    assert str(fault.value).startswith(what)


def test_many_go_in_pieces_of_a_thousand_in_order(stub: Stub, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    lines = "\n".join(json.dumps({"image": f"i{n}"}) for n in range(2345))
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    done = cli("submit", "-f", "-")
    assert done.out.split() == [f"job_{n}" for n in range(1, 2346)]
    pieces = [json.loads(body)["jobs"] for body in stub.seen("POST", "/v1/jobs/batch")]
    assert [len(piece) for piece in pieces] == [1000, 1000, 345]
    assert [spec["image"] for piece in pieces for spec in piece] == [f"i{n}" for n in range(2345)]


def test_big_jobs_go_in_pieces_below_the_limit(stub: Stub, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    lines = "\n".join(json.dumps({"image": "x", "env": {"A": "y" * 100_000}}) for _ in range(180))
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert len(cli("submit", "-f", "-").out.split()) == 180
    assert [len(body) < 2**23 for body in stub.seen("POST", "/v1/jobs/batch")] == [True] * 3


@pytest.mark.parametrize(("text", "key"), [("image: one\n", "k"), ("image: one\n---\nimage: two\n", "k/0")])
def test_a_key_is_passed_on(stub: Stub, cli: Cli, tmp_path: Path, text: str, key: str):
    cli("submit", "-f", written(tmp_path, text), "--idempotency-key", "k")
    assert [headers["idempotency-key"] for *_, headers, _ in stub.requests] == [key]


@pytest.mark.parametrize(("code", "exit_code"), [(0, 0), (7, 7)])
def test_wait_exits_as_the_job_did(stub: Stub, cli: Cli, tmp_path: Path, code: int, exit_code: int):
    stub.become = ended(code)
    done = cli("submit", "--wait", "-o", "json", "-f", written(tmp_path, "image: one\n"))
    assert done.code == exit_code
    assert json.loads(done.out)["status"]["attempts"][0]["exit_code"] == code
