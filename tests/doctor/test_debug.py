"""`windlass debug` over a real cluster: everything is in the bundle but the secrets, which were planted everywhere."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.doctor.sites import silent
from tests.support import HANG_S, wait_until
from tests.system.test_up import Up
from windlass.core.access import Role, make_token
from windlass.core.quantity import parse_size

#: What must be in no bundle; each has letters that URLs, JSON and shells write in another way.
PLANTED = {
    place: f'q7x{place}q7x/+ &="é'
    for place in (
        "database",
        "redis",
        "nodes",
        "collector",
        "proxy",
        "variable",
        "header",
        "password",
        "file",
        "env",
        "log",
        "word",
    )
}
#: What no setting, file, variable or job names: only its form can tell.
UNKNOWN = ("log", "word")
TOKENS = {
    role: make_token(role, [n * 7 % 62 for n in range(role_at, role_at + 32)]) for role_at, role in enumerate(Role)
}
ENCODED = {place: quote(secret, safe="") for place, secret in PLANTED.items()}


def debug(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
    order = [sys.executable, "-m", "windlass", "debug", *words]
    return subprocess.run(order, env=own | env, cwd=folder, capture_output=True, text=True, check=False)


def contents(archive: Path) -> dict[str, bytes]:
    """The bundle's papers, by their names in it."""
    with tarfile.open(archive) as tar:
        found = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in found.items() if file is not None}


def rows(content: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in content.splitlines()]


def leaks(papers: dict[str, bytes]) -> list[str]:
    """Which secret stands where, in whatever form."""
    forms = {place: [f"q7x{place}".encode(), base64.b64encode(secret.encode())] for place, secret in PLANTED.items()}
    forms |= {role: [token.encode()] for role, token in TOKENS.items()}
    return [
        f"{place} in {name}: {content[max(0, content.lower().find(form.lower()) - 20) :][:60]!r}"
        for name, content in papers.items()
        for place, written in forms.items()
        for form in written
        if form.lower() in content.lower()
    ]


@pytest.fixture(scope="module")
def up(roomy_folder: Path) -> Iterator[Up]:
    place = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="debug "))
    place.chmod(0o711)
    up = Up(place / "data")
    yield up
    if up.process.poll() is None:
        up.process.terminate()
        up.process.wait(HANG_S)
    up.close()


def secrets_of(folder: Path) -> dict[str, str]:
    """Variables as somebody might have them, and the files they name."""
    (folder / "token").write_text(TOKENS[Role.ADMIN] + "\n")
    (folder / "redis-url").write_text(f"redis://:{ENCODED['file']}@redis.example:6379/0\n")
    (folder / "settings.toml").write_text(f'[tracing]\nendpoint = "http://me:{ENCODED["collector"]}@collector:4318"\n')
    return {
        "WINDLASS_CONFIG": str(folder / "settings.toml"),
        "WINDLASS_DATABASE_URL": f"postgresql://u:{ENCODED['database']}@127.0.0.1:1/x?sslpassword={ENCODED['password']}",
        "WINDLASS_REDIS_URL_FILE": str(folder / "redis-url"),
        "WINDLASS_REDIS_WORKER_URL": f"redis://:{ENCODED['nodes']}@redis.example:6379/0",
        "WINDLASS_TOKEN_FILE": str(folder / "token"),
        "WINDLASS_WORKER_JOIN": TOKENS[Role.JOIN],
        "PGPASSWORD": PLANTED["variable"],
        "NO_PROXY": "127.0.0.1",
        "HTTP_PROXY": f"http://me:{ENCODED['redis']}@proxy:3128",
        "HTTPS_PROXY": f"http://me:{ENCODED['proxy']}@proxy:3128",
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-team={ENCODED['header']}",
    }


def plant(log: Path) -> None:
    """Lines that no role of ours should write, and some day one will."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    known = [secret for place, secret in PLANTED.items() if place not in UNKNOWN]
    said = [
        *known, *map(json.dumps, known), *map(repr, known), *map(quote, known), *map(quote_plus, known),
        *(quote(secret, safe="").replace("%2F", "%2f") for secret in known),
        *(base64.b64encode(secret.encode()).decode() for secret in known), *TOKENS.values(),
    ]  # fmt: skip
    lines = [{"time": now, "event": "odd", "why": text} for text in said]
    lines += [{"time": now, "event": "odd", "password": PLANTED["log"]}]
    lines += [{"time": now, "event": "odd", "body": json.dumps({"api_key": PLANTED["log"]})}]
    lines += [{"time": now, "event": "odd", "url": f"amqp://u:{ENCODED['log']}@h/"}]
    lines += [{"time": now, "event": "odd", "sent": "Authorization: Bearer q7xlog/q7x"}]
    with log.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.write("\n".join(said) + "\n")
        file.write("-----BEGIN RSA PRIVATE KEY-----\nq7xlog\nq7xlog\n-----END RSA PRIVATE KEY-----\n")


async def test_a_bundle_tells_everything_but_secrets(up: Up, tmp_path: Path) -> None:
    await up.ready()
    await wait_until(lambda: len(up.pids("worker")) > 0, "the worker runs")
    secret = {"DB_PASSWORD": PLANTED["env"], "MODE": "x"}
    command = ["sh", "-c", "exit 3", PLANTED["word"]]
    failed = up.submit(
        {"command": command, "args": [PLANTED["word"]], "env": secret, "max_retries": 0, "name": "fails"}
    )
    waits = up.submit({"command": ["true"], "env": secret, "start_delay": "1h", "name": "waits"})
    await wait_until(lambda: up.attempt_states(failed) == ["failed"], "the job has failed")
    plant(up.data / "log" / "api.log")
    done = debug(
        tmp_path, "--data", str(up.data), "--url", f"http://127.0.0.1:{up.port}", "-o", "json", **secrets_of(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    archive = tmp_path / told["file"]
    papers = contents(archive)
    assert leaks(papers | {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}) == []

    assert archive.stat().st_mode & 0o777 == 0o600
    manifest = json.loads(papers["manifest.json"])
    assert {name: told[name] for name in manifest} == manifest
    assert {"README.txt", "manifest.json", *(paper["name"] for paper in manifest["files"])} == papers.keys()
    assert all(paper["bytes"] == len(papers[paper["name"]]) for paper in manifest["files"])
    assert {"output of jobs", "messages on the streams"} <= {one["what"] for one in manifest["left_out"]}

    jobs = {row["id"]: row for row in rows(papers["ledger/jobs.jsonl"])}
    assert jobs[failed]["spec"]["env"] == ["DB_PASSWORD", "MODE"]
    assert jobs[failed]["spec"]["command"] == ["sh", "(3 words left out)"]
    assert jobs[failed]["attempts"][0]["exit_code"] == 3
    assert jobs[waits]["state"] == "backoff"
    assert {"job.submitted", "job.failed"} <= {row["type"] for row in rows(papers["ledger/events.jsonl"])}
    assert json.loads(papers["ledger/queue.json"])["open_by_state"] == [{"state": "backoff", "count": 1}]
    assert json.loads(papers["ledger/nodes.json"])[0]["node"]["state"] == "ready"
    assert json.loads(papers["ledger/cluster.json"])["leader"]["term"] == 1
    assert any(row["name"] == "0001_spine.sql" for row in json.loads(papers["ledger/migrations.json"]))
    streams = {row["key"].split(":")[1]: row for row in json.loads(papers["streams.json"])}
    assert streams["leader"]["groups"][0]["name"] == "leader"
    assert {"leader", "node"} <= streams.keys()
    assert b"\nwindlass_" in papers["metrics/api.txt"]
    assert {f"logs/{name}.log" for name in ("api", "postgres", "scheduler", "valkey", "worker")} <= papers.keys()
    assert b"odd" in papers["logs/api.log"]
    assert json.loads(papers["doctor.json"])["findings"]
    assert json.loads(papers["facts.json"])["postgresql"]["fsync"] == "on"
    assert {"windlass up", "windlass api"} <= {row["command"] for row in json.loads(papers["processes.json"])}
    settings = {row["key"]: row for row in json.loads(papers["settings.json"])}
    assert settings["tracing.endpoint"] == {
        "key": "tracing.endpoint", "value": "http://***@collector:4318",
        "from": f"{tmp_path}/settings.toml: tracing.endpoint",
    }  # fmt: skip
    assert settings["worker.join"]["value"] == "***"
    assert settings["worker.join"]["from"] == "WINDLASS_WORKER_JOIN"
    assert settings["api.port"] == {"key": "api.port", "value": 8000, "from": "default"}
    assert settings["database.url"]["from"] == "the folder of `windlass up`"
    assert "PGPASSWORD" in json.loads(papers["machine.json"])["variables_that_are_set"]


async def test_since_and_bounds(up: Up, tmp_path: Path) -> None:
    await up.ready()
    log = up.data / "log" / "old.log"
    old, new = '{"time": "2020-01-01T00:00:00Z", "event": "old"}\n', f'{{"time": "{_now()}", "event": "new"}}\n'
    log.write_text(old * 10 + new * 3 + "a traceback\n")
    (up.data / "log" / "large.log").write_text((f'{{"time": "{_now()}", "event": "' + "x" * 100 + '"}\n') * 60_000)
    done = debug(tmp_path, "--data", str(up.data), "--since", "1h", "-o", "name", "--file", str(tmp_path / "mine"))
    assert done.stdout == f"{tmp_path}/mine\n", done.stderr
    papers = contents(tmp_path / "mine")
    assert papers["logs/old.log"].decode() == new * 3 + "a traceback\n"
    assert len(papers["logs/large.log"]) <= parse_size("1Mi")
    cut = {paper["name"]: paper["cut"] for paper in json.loads(papers["manifest.json"])["files"]}
    assert "bytes before it" in cut["logs/large.log"]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


async def test_of_a_cluster_that_was_killed_the_logs_are_there(roomy_folder: Path, tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="killed "))
    place.chmod(0o711)
    up = Up(place / "data")
    try:
        await up.ready()
        os.killpg(up.process.pid, signal.SIGKILL)
        for pid in up.pids(str(up.data)):
            os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: not up.pids(str(up.data)), "all of it is gone")
    finally:
        up.close()
    done = debug(tmp_path, "--data", str(up.data), "-o", "json")
    assert done.returncode == 0, done.stderr
    left_out = {one["what"]: one["why"] for one in json.loads(done.stdout)["left_out"]}
    assert {"ledger/", "streams.json", "api/version.json", "metrics/api.txt"} <= left_out.keys()
    assert "logs/scheduler.log" in {paper["name"] for paper in json.loads(done.stdout)["files"]}


def test_servers_that_say_nothing_cost_bounded_time(tmp_path: Path) -> None:
    with silent() as port, silent(tmp_path / "docker.sock"):
        env = {
            "WINDLASS_DATABASE_URL": f"postgresql://u:{ENCODED['database']}@127.0.0.1:{port}/x",
            "WINDLASS_REDIS_URL": f"redis://:{ENCODED['redis']}@127.0.0.1:{port}/0",
            "WINDLASS_URL": f"http://127.0.0.1:{port}",
            "WINDLASS_WORKER_DOCKER_URL": f"unix://{tmp_path}/docker.sock",
            "WINDLASS_METRICS_PORT": str(port),
        }
        done = debug(tmp_path, "-o", "json", **env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"ledger/", "streams.json", "containers.json", "api/version.json", "metrics/api.txt",
            f"metrics/port-{port}.txt", "logs of the roles"} <= {one["what"] for one in told["left_out"]}  # fmt: skip
    assert all(one["why"] for one in told["left_out"])
    assert {"doctor.json", "settings.json", "machine.json"} <= {paper["name"] for paper in told["files"]}
    assert leaks(contents(tmp_path / told["file"])) == []


def test_settings_are_told_with_where_they_come_from(tmp_path: Path) -> None:
    text = '[worker]\nname = "crane"\n[redis]\nurl = "redis://:hunter2-of-a-file@127.0.0.1:1/0"\n'
    (tmp_path / "worker.toml").write_text(text)
    done = debug(tmp_path, "--role", "worker", "--config", "worker.toml", "-o", "json")
    assert done.returncode == 0, done.stderr
    papers = contents(tmp_path / json.loads(done.stdout)["file"])
    told = {one["key"]: (one["value"], one["from"]) for one in json.loads(papers["settings.json"])}
    assert told["worker.name"] == ("crane", "worker.toml: worker.name")
    assert told["redis.url"] == ("redis://:***@127.0.0.1:1/0", "worker.toml: redis.url")
    assert not [name for name, content in papers.items() if b"hunter2-of-a-file" in content]


def test_it_takes_no_other_file_s_place(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = debug(tmp_path, "--file", "mine", "--role", "client")
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"
    done = debug(tmp_path, "--file", "nowhere/mine", "--role", "client")
    assert done.returncode == 2
    assert "can't be written" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--since", "soon"), "--since 'soon'"),
        (("--data", "/nowhere"), "no servers of `windlass up`"),
        (("--role", "boss"), "no role 'boss'"),
    ],
)
def test_wrong_usage_makes_no_file(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = debug(tmp_path, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(HANG_S)
        own = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        env = own | {"WINDLASS_DATABASE_URL": f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/x"}
        with subprocess.Popen(
            [sys.executable, "-m", "windlass", "debug"], env=env, cwd=tmp_path, stderr=subprocess.PIPE
        ) as process:
            asked, _ = server.accept()  # it is at work, and gets no answer
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=HANG_S)
            asked.close()
            assert process.returncode == 130, said
    assert list(tmp_path.iterdir()) == []


def test_people_are_told_to_look_first(tmp_path: Path) -> None:
    done = debug(tmp_path, "--role", "client")
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.iterdir()
    assert f"Look it through before you send it: tar -xzOf {archive.name} | less" in done.stdout
    assert b"Look it through before you give it" in contents(archive)["README.txt"]
