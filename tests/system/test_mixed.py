"""Real processes of the version before beside those of this one, as in the middle of an upgrade."""

import io
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import windlass
from tests.support import wait_until
from tests.system.cluster import Cluster, Job, Role

pytestmark = [pytest.mark.docker]

#: The last commit of version 0.2.
BEFORE = "feb6978b6f7d15f2f9cfe0565d196c7bdd08a4e9"
NOW = Path(windlass.__file__).parents[1]
HISTORY = NOW.parent
#: No node is lost here, however slow the machine.
LOSSES: dict[str, Any] = {"node_suspect_s": 60, "node_lost_s": 90}
PATIENT: dict[str, Any] = {"heartbeat_s": 0.5, "self_fence_s": 60, "links": {"scheduler.node_lost_s": 90}}
DRIVERS = ("process", "docker")

Begin = Callable[..., Role]


def git(*args: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", "-c", "safe.directory=*", "-C", HISTORY, *args], capture_output=True, check=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version before, as this repository's history has it."""
    archive = git("archive", BEFORE, "src")
    if archive.returncode and git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false":
        pytest.skip(f"no history here that has version 0.2 ({BEFORE[:7]}): git fetch --unshallow")
    assert archive.returncode == 0, archive.stderr
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


@pytest.fixture
def before(source: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Begins a role as it was in the version before."""

    def begin(role: Callable[..., Role], *args: Any, **settings: Any) -> Role:
        with monkeypatch.context() as changed:
            changed.setenv("PYTHONPATH", str(source))
            return role(*args, **settings)

    return begin


def renew(role: Role) -> None:
    """Begin it again, as it is in this version."""
    role.start(PYTHONPATH=str(NOW))


def versions(cluster: Cluster) -> dict[str, str]:
    return {node["name"]: node["version"] for node in cluster.nodes()}


async def all_end(cluster: Cluster, wave: str, count: int) -> None:
    """So many jobs of either driver, good and bad ones, are over as they should, with their output."""
    specs = [
        cluster.spec(f"{wave}-{n}", f"echo out {n}; exit {n % 3}", driver=DRIVERS[n % 4 == 1], max_retries=0)
        for n in range(count)
    ]
    jobs = await cluster.over(*cluster.submit_all(specs))
    for n, job in enumerate(jobs):
        [attempt] = job["status"]["attempts"]
        assert (attempt["exit_code"], attempt["cause"]) == (n % 3, "exit_code" if n % 3 else None)
        assert cluster.log(job["id"]) == f"out {n}\n".encode()
    cluster.reconcile(jobs)


async def ended_by_wish_and_by_limit(cluster: Cluster, wave: str) -> None:
    """One job is cancelled while it runs, and one comes to its limit."""
    wish = cluster.submit(cluster.spec(f"{wave}-wish", "sleep 60"))
    limit = cluster.submit(cluster.spec(f"{wave}-limit", "sleep 60", attempt_timeout=1, max_retries=0))
    await cluster.state(wish, "running")
    cluster.http.post(f"/v1/jobs/{wish}/cancel")
    jobs = await cluster.over(wish, limit)
    assert [(job["state"], job["status"]["attempts"][0]["cause"]) for job in jobs] == [
        ("cancelled", "cancelled"),
        ("failed", "timeout"),
    ]


def nothing_broke(cluster: Cluster) -> None:
    assert not [role.log.name for role in cluster.started if "Traceback" in role.said()]


async def test_a_worker_of_the_version_before_works_under_this_one(cluster: Cluster, before: Begin) -> None:
    cluster.api()
    cluster.scheduler(**LOSSES)
    before(cluster.worker, "n1", **PATIENT)
    await cluster.ready()
    assert versions(cluster) == {"n1": "0.2.0"}
    await all_end(cluster, "first", 24)
    await ended_by_wish_and_by_limit(cluster, "first")
    moves = cluster.submit(cluster.spec("moves", "[ $WINDLASS_ATTEMPT -gt 1 ] || sleep 60", stop_grace=1))
    await cluster.state(moves, "running")
    cluster.worker("n2", **PATIENT)
    await cluster.ready(2)
    assert cluster.cli("drain", "n1", "--deadline", "0").returncode == 0
    (job,) = await cluster.over(moves)
    assert [(one["state"], one["node"]) for one in job["status"]["attempts"]] == [
        ("cancelled", "n1"),
        ("succeeded", "n2"),
    ]
    assert (job["status"]["retries"], job["status"]["infra_losses"]) == (0, 0), "a drain costs nothing"
    cluster.reconcile([job])
    nothing_broke(cluster)


async def test_a_worker_takes_over_what_one_of_the_version_before_runs(cluster: Cluster, before: Begin) -> None:
    cluster.api()
    cluster.scheduler(**LOSSES)
    worker = before(cluster.worker, "n1", **PATIENT)
    await cluster.ready()
    stays = cluster.submit_all([counts(cluster, f"stays-{driver}", driver, "later") for driver in DRIVERS])
    ends = cluster.submit_all([counts(cluster, f"ends-{driver}", driver, "meanwhile") for driver in DRIVERS])
    for job_id in stays + ends:
        await wait_until(lambda job_id=job_id: cluster.log(job_id).count(b"\n") > 3, "it writes")
    assert worker.process is not None
    worker.process.send_signal(signal.SIGHUP)
    await wait_until(lambda: worker.code is not None, "the old one has gone")
    (cluster.proofs / "meanwhile").touch()
    for driver in DRIVERS:
        await wait_until(lambda driver=driver: cluster.evidence(f"ends-{driver}")[-1].what == "end", "it has ended")
    renew(worker)
    await wait_until(lambda: versions(cluster) == {"n1": windlass.__version__}, "the new one is there")
    jobs = await cluster.over(*ends)
    (cluster.proofs / "later").touch()
    jobs += await cluster.over(*stays)
    for job in jobs:
        [attempt] = job["status"]["attempts"]
        assert (attempt["state"], attempt["cause"], attempt["exit_code"]) == ("failed", "exit_code", 5)
        whole(cluster, job)
    assert worker.said().count('"adopted"') == len(jobs)
    cluster.reconcile(jobs)
    await all_end(cluster, "then", 5)
    nothing_broke(cluster)


def counts(cluster: Cluster, name: str, driver: str, until: str) -> Job:
    """A job that writes numbered lines until the test says so."""
    file = cluster.proofs / until
    script = f"n=0; while [ ! -e '{file}' ]; do n=$((n+1)); echo $n; sleep 0.05; done; echo last $n; exit 5"
    return cluster.spec(name, script, driver=driver, max_retries=0)


def whole(cluster: Cluster, job: Job) -> None:
    """No line is missing, and none is there twice."""
    *lines, last = cluster.log(job["id"]).decode().splitlines()
    assert lines == [str(n + 1) for n in range(len(lines))]
    assert last == f"last {len(lines)}"


async def test_a_control_plane_of_the_version_before_is_replaced_role_by_role(cluster: Cluster, before: Begin) -> None:
    """API first, then the scheduler that leads, with a worker of either version at work all the time."""
    api, scheduler = before(cluster.api), before(cluster.scheduler, "before", **LOSSES)
    before(cluster.worker, "n1", **PATIENT)
    cluster.worker("n2", **PATIENT)
    await cluster.ready(2)
    assert versions(cluster) == {"n1": "0.2.0", "n2": windlass.__version__}
    await all_end(cluster, "before", 5)
    assert not api.stop()
    renew(api)
    await cluster.ready(2)
    await all_end(cluster, "between", 5)
    await ended_by_wish_and_by_limit(cluster, "between")
    cluster.scheduler("after", **LOSSES)
    await wait_until(lambda: cluster.http.get("/v1/cluster").json()["standbys"], "one stands by")
    assert not scheduler.stop()
    await all_end(cluster, "after", 5)
    nothing_broke(cluster)
