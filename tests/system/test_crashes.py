"""kill -9 at the worst moments: between a commit and what should follow it, and of workers while their jobs run."""

import os
import signal
from pathlib import Path

import httpx2
import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster

KILLED = -signal.SIGKILL
BOTH = pytest.mark.parametrize("driver", ["process", pytest.param("docker", marks=pytest.mark.docker)])


async def test_api_killed_between_commit_and_answer_the_retried_request_finds_its_job(cluster: Cluster) -> None:
    cluster.scheduler()
    cluster.worker()
    api = cluster.api()
    await cluster.ready()
    api.kill()
    api.start(WINDLASS_CRASH_AT="submit.committed")
    await cluster.ready()
    spec = cluster.spec("once")
    with pytest.raises(httpx2.TransportError):
        cluster.submit(spec, key="k1")
    assert api.process is not None
    assert api.process.wait(5) == KILLED
    api.start()
    await cluster.ready()
    first, second = cluster.submit(spec, key="k1"), cluster.submit(spec, key="k1")
    assert first == second
    (job,) = await cluster.all_over(1)
    assert (job["id"], job["state"], cluster.starts("once")) == (first, "succeeded", [1])
    cluster.reconcile([job])


async def test_scheduler_killed_between_commit_and_send_the_next_one_launches_it_once(cluster: Cluster) -> None:
    cluster.api()
    cluster.worker()
    first = cluster.scheduler("first")
    await cluster.ready()
    first.kill()
    first.start(WINDLASS_CRASH_AT="scheduler.committed")
    job_id = cluster.submit(cluster.spec("placed"))
    await wait_until(lambda: first.code is not None, "the scheduler has died")
    assert first.code == KILLED
    (placed,) = cluster.job(job_id)["status"]["attempts"]
    assert (placed["state"], cluster.evidence("placed")) == ("placed", [])
    cluster.scheduler("second")
    (job,) = await cluster.over(job_id)
    assert [attempt["id"] for attempt in job["status"]["attempts"]] == [placed["id"]]
    assert (job["state"], cluster.starts("placed")) == ("succeeded", [1])
    cluster.reconcile([job])


async def test_a_standby_takes_over_and_nothing_is_placed_twice(cluster: Cluster) -> None:
    cluster.api()
    cluster.worker()
    waiting = [cluster.scheduler(name) for name in "abc"]
    await cluster.ready()
    cluster.submit_all([cluster.spec(f"j{n}", "sleep 0.05", resources={"cpu": 1}) for n in range(120)])
    for _ in range(2):
        leader = await wait_until(lambda: next((s for s in waiting if '"leading"' in s.said()), None), "one leads")
        assert leader is not None
        done = len(cluster.jobs(state="succeeded"))
        await wait_until(lambda d=done: len(cluster.jobs(state="succeeded")) > d + 10, "jobs end")
        leader.kill()
        waiting.remove(leader)
    jobs = await cluster.all_over(120)
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert all(cluster.starts(job["name"]) == [1] for job in jobs)
    cluster.reconcile(jobs)


@BOTH
async def test_worker_killed_between_journal_and_report_the_outcome_is_kept(cluster: Cluster, driver: str) -> None:
    cluster.api()
    cluster.scheduler()
    worker = cluster.worker()
    await cluster.ready()
    worker.kill()
    worker.start(WINDLASS_CRASH_AT="worker.journalled")
    job_id = cluster.submit(cluster.spec("kept", "echo words; exit 42", driver=driver, max_retries=0))
    await wait_until(lambda: worker.code is not None, "the worker has died")
    assert worker.code == KILLED
    assert cluster.job(job_id)["state"] == "running"
    worker.start()
    (job,) = await cluster.over(job_id)
    (attempt,) = job["status"]["attempts"]
    assert (job["state"], attempt["exit_code"], attempt["cause"]) == ("failed", 42, "exit_code")
    assert cluster.log(job_id) == b"words\n"
    assert cluster.starts("kept") == [1]
    cluster.reconcile([job])


COUNT = "n=0; while [ $n -lt {to} ]; do n=$((n+1)); echo line $n; sleep 0.05; done; "


def counted(to: int) -> bytes:
    return b"".join(b"line %d\n" % n for n in range(1, to + 1))


@BOTH
async def test_jobs_outlive_their_worker_and_are_adopted(cluster: Cluster, driver: str) -> None:
    cluster.api()
    cluster.scheduler()
    worker = cluster.worker()
    await cluster.ready()
    fields = {"driver": driver, "max_retries": 0}
    specs = [
        cluster.spec("ends-while-away", COUNT.format(to=30) + "exit 7", **fields),
        cluster.spec("goes-on", COUNT.format(to=120) + "exit 3", **fields),
        cluster.spec("limited", COUNT.format(to=900), attempt_timeout=6, **fields),
        cluster.spec("killed-by-a-signal", COUNT.format(to=120) + "kill -9 $$", **fields),
    ]
    ids = cluster.submit_all(specs)
    for job_id in ids:
        await wait_until(lambda i=job_id: cluster.log(i).count(b"\n") > 3, "its output is shipped")
    worker.kill()
    await wait_until(lambda: "end" in [line.what for line in cluster.evidence("ends-while-away")], "one has ended")
    worker.start()
    jobs = await cluster.over(*ids)
    tried = [job["status"]["attempts"] for job in jobs]
    assert [[(a["exit_code"], a["cause"]) for a in attempts] for attempts in tried] == [
        [(7, "exit_code")],
        [(3, "exit_code")],
        [(143, "timeout")],
        [(137, "signal")],
    ]
    assert all(cluster.starts(job["name"]) == [1] for job in jobs)
    for job_id, to in ((ids[0], 30), (ids[1], 120), (ids[3], 120)):
        assert cluster.log(job_id) == counted(to)
    limited = cluster.log(ids[2])
    assert limited == counted(limited.count(b"\n"))
    cluster.reconcile(jobs)


@BOTH
async def test_much_output_before_a_workers_crash_is_kept_whole_to_the_cap(cluster: Cluster, driver: str) -> None:
    """Over half the cap, what a worker has read is no longer sent at once: its successor must find it all the same."""
    cluster.api()
    cluster.scheduler()
    worker = cluster.worker()
    await cluster.ready()
    flag = cluster.proofs / "go on"
    width = 10 if driver == "process" else 1000  # the Engine is slow with short lines
    lines = 8_000_000 // width
    script = (
        f"awk 'BEGIN {{ for (n = 0; n < {lines}; n++) printf \"%0{width - 1}d\\n\", n }}'; say printed; "
        f"while [ ! -e '{flag}' ]; do sleep 0.05; done; echo last words"
    )
    job_id = cluster.submit(cluster.spec("much", script, driver=driver, max_retries=0))
    await wait_until(lambda: "printed" in [line.what for line in cluster.evidence("much")], "it has printed")
    await wait_until(lambda: len(cluster.log(job_id)) >= 5 * 2**20, "half the cap is stored")
    await wait_until(lambda: _idle(worker.pid), "the worker has read the rest")
    worker.kill()
    worker.start()
    await wait_until(lambda: worker.said().count("adopted"), "it was adopted")
    flag.touch()
    await cluster.state(job_id, "succeeded")
    whole = b"".join(b"%0*d\n" % (width - 1, n) for n in range(lines)) + b"last words\n"
    assert cluster.log(job_id, attempt="1") == whole


def _idle(pid: int) -> bool:
    """Whether the process has used next to no processor time in the last moment."""
    tick = _ticks.get(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    now = (int(fields[11]) + int(fields[12]), os.times().elapsed)
    if tick is None or now[1] - tick[1] > 0.5:
        _ticks[pid] = now
    return tick is not None and now[1] - tick[1] > 0.5 and now[0] - tick[0] <= 5


_ticks: dict[int, tuple[int, float]] = {}


async def test_a_worker_killed_again_and_again_under_load_restarts_no_job(cluster: Cluster) -> None:
    cluster.api()
    cluster.scheduler()
    worker = cluster.worker()
    await cluster.ready()
    script = "for n in 1 2 3 4 5; do echo line $n; sleep 0.05; done; exit $CODE"
    specs = [
        cluster.spec(f"j{n}", script, env={"CODE": str(n % 7)}, max_retries=0, resources={"cpu": 0.5})
        for n in range(90)
    ]
    ids = cluster.submit_all(specs)
    for share in (10, 30, 50):
        await wait_until(lambda share=share: len(cluster.jobs(state="failed")) > share, "some are over")
        worker.kill()
        worker.start()
    jobs = await cluster.over(*ids)
    for number, job in enumerate(jobs):
        assert len(job["status"]["attempts"]) == 1, (job["status"], cluster.events(job["id"]), worker.said())
        (attempt,) = job["status"]["attempts"]
        assert (attempt["exit_code"], job["status"]["infra_losses"]) == (number % 7, 0), job
        assert cluster.log(job["id"]) == counted(5)
        assert cluster.starts(job["name"]) == [1]
    cluster.reconcile(jobs)
