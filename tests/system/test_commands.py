"""The real command line against a real cluster, and what a worker is allowed to know."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster

BOTH = pytest.mark.parametrize("driver", ["process", pytest.param("docker", marks=pytest.mark.docker)])


@BOTH
async def test_run_shows_the_output_and_exits_with_the_jobs_code(calm: Cluster, driver: str) -> None:
    image = ["--image", calm.spec("x", driver=driver)["image"], "--network", "none"] if driver == "docker" else []
    options = ["--quiet", "--max-retries", "0", *image, "-e", "WHAT=words"]
    for code in (0, 3, 255):
        script = f"echo $WHAT; echo trouble >&2; exit {code}"
        done = calm.cli("run", *options, "--", "sh", "-c", script)
        assert (done.returncode, done.stdout) == (code, "words\n")
        assert "trouble\n" in done.stderr


async def test_run_tells_a_signal_as_shells_do(calm: Cluster) -> None:
    assert calm.cli("run", "--quiet", "--max-retries", "0", "--", "sh", "-c", "kill -9 $$").returncode == 137


async def test_ctrl_c_on_run_cancels_the_job(calm: Cluster) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("WINDLASS_")}
    command = [sys.executable, "-m", "windlass", "run", "--name", "interrupted", "--", "sleep", "60"]
    with subprocess.Popen(
        command, env=env | {"WINDLASS_URL": calm.url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        found = await wait_until(lambda: calm.jobs(name="interrupted", state="running"), "it runs")
        running.send_signal(signal.SIGINT)
        assert running.wait(20) != 0
    (job,) = await calm.over(found[0]["id"])
    assert job["state"] == "cancelled"


async def test_logs_f_follows_across_a_retry(calm: Cluster) -> None:
    script = "for n in 1 2 3; do echo try $WINDLASS_ATTEMPT line $n; sleep 0.2; done; [ $WINDLASS_ATTEMPT -gt 1 ]"
    job_id = calm.submit(calm.spec("followed", script))
    done = calm.cli("logs", "-f", job_id)
    assert done.returncode == 0
    assert done.stdout == "".join(f"try {t} line {n}\n" for t in (1, 2) for n in (1, 2, 3))
    assert "attempt 2" in done.stderr
    assert calm.starts("followed") == [1, 2]


async def test_wait_and_show_agree_with_the_evidence(calm: Cluster) -> None:
    job_id = calm.submit(calm.spec("waited", "sleep 0.5; exit 6", max_retries=1))
    assert calm.cli("wait", job_id).returncode != 0
    shown = calm.cli("show", job_id, "-o", "json")
    assert '"failed"' in shown.stdout
    assert calm.starts("waited") == [1, 2]


async def test_a_worker_never_learns_where_the_database_is(cluster: Cluster) -> None:
    """Neither from us, nor from its surroundings: it holds no connection to it and loads no client for it."""
    cluster.api()
    cluster.scheduler()
    worker = cluster.worker()
    await cluster.ready()
    (job,) = await cluster.over(cluster.submit(cluster.spec("any", "env")))
    assert job["state"] == "succeeded"
    assert b"DATABASE" not in Path(f"/proc/{worker.pid}/environ").read_bytes()
    assert b"DATABASE" not in cluster.log(job["id"])
    loaded = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "psycopg" not in loaded
    assert "libpq" not in loaded
