"""How jobs end: every exit code and signal, retries to the letter, cancel in every state, retry, delete."""

import signal
import subprocess
import time

import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster

BOTH = pytest.mark.parametrize("driver", ["process", pytest.param("docker", marks=pytest.mark.docker)])


def last(job: dict) -> dict:
    return job["status"]["attempts"][-1]


async def test_every_exit_code_from_0_to_255_is_told_exactly(calm: Cluster) -> None:
    ids = calm.submit_all(
        [
            calm.spec(f"code-{n}", f"exit {n}", max_retries=0, labels={"of": "codes"}, resources={"cpu": 1})
            for n in range(256)
        ]
    )
    jobs = await calm.all_over(256, label="of=codes")
    by_id = {job["id"]: job for job in jobs}
    for n, job_id in enumerate(ids):
        job = by_id[job_id]
        expected = ("succeeded", 0, None) if n == 0 else ("failed", n, "exit_code")
        assert (job["state"], last(job)["exit_code"], last(job)["cause"]) == expected
        assert len(job["status"]["attempts"]) == 1
    calm.reconcile(jobs)


@pytest.mark.docker
async def test_exit_codes_of_containers_are_told_exactly(calm: Cluster) -> None:
    codes = [0, 1, 2, 77, 125, 126, 127, 128, 254, 255]
    ids = [calm.submit(calm.spec(f"c-code-{n}", f"exit {n}", driver="docker", max_retries=0)) for n in codes]
    jobs = await calm.over(*ids)
    assert [last(job)["exit_code"] for job in jobs] == codes
    assert [last(job)["cause"] for job in jobs] == [None, *["exit_code"] * 9]
    calm.reconcile(jobs)


@BOTH
async def test_signals_are_named(calm: Cluster, driver: str) -> None:
    numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]
    ids = [
        calm.submit(calm.spec(f"{driver}-{n.name}", f"kill -{n} $$; sleep 9", driver=driver, max_retries=0))
        for n in numbers
    ]
    for number, job in zip(numbers, await calm.over(*ids), strict=True):
        assert (job["state"], last(job)["exit_code"], last(job)["cause"]) == ("failed", 128 + number, "signal")
        assert number.name in last(job)["message"]


@BOTH
async def test_max_retries_3_is_exactly_4_attempts(calm: Cluster, driver: str) -> None:
    name = f"always-fails-{driver}"
    (job,) = await calm.over(calm.submit(calm.spec(name, "exit 9", driver=driver)))
    assert calm.starts(name) == [1, 2, 3, 4]
    assert (job["state"], job["status"]["retries"], job["status"]["infra_losses"]) == ("failed", 3, 0)
    assert [(a["number"], a["exit_code"], a["cause"]) for a in job["status"]["attempts"]] == [
        (n, 9, "exit_code") for n in (1, 2, 3, 4)
    ]
    assert "no retries left (max_retries 3)" in job["status"]["reason"]
    calm.reconcile([job])


async def test_it_fails_twice_and_then_succeeds(calm: Cluster) -> None:
    (job,) = await calm.over(calm.submit(calm.spec("twice", "[ $WINDLASS_ATTEMPT -gt 2 ]")))
    assert calm.starts("twice") == [1, 2, 3]
    assert (job["state"], [a["exit_code"] for a in job["status"]["attempts"]]) == ("succeeded", [1, 1, 0])
    calm.reconcile([job])


async def test_backoff_grows_from_try_to_try(calm: Cluster) -> None:
    backoff = {"initial": 0.3, "factor": 2, "jitter": 0}
    await calm.over(calm.submit(calm.spec("grows", "exit 1", max_retries=2, backoff=backoff)))
    ends = [line.at for line in calm.evidence("grows") if line.what == "end"]
    starts = [line.at for line in calm.evidence("grows") if line.what == "start"]
    waits = [start - end for end, start in zip(ends, starts[1:], strict=False)]
    assert waits[0] >= 0.29
    assert waits[1] >= 0.59


async def test_cancel_while_queued(calm: Cluster) -> None:
    first, never = calm.submit_all(
        [
            calm.spec("holds", "sleep 60", resources={"cpu": 8, "memory": "32Mi"}, priority=1),
            calm.spec("never", resources={"cpu": 8, "memory": "32Mi"}),
        ]
    )
    await calm.state(first, "running")
    answer = calm.http.post(f"/v1/jobs/{never}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    calm.http.post(f"/v1/jobs/{first}/cancel")
    jobs = await calm.over(first, never)
    assert [job["state"] for job in jobs] == ["cancelled", "cancelled"]
    assert calm.evidence("never") == []
    calm.reconcile(jobs)


@BOTH
async def test_cancel_while_running_is_done_when_it_is_gone(calm: Cluster, driver: str) -> None:
    name = f"runs-{driver}"
    job_id = calm.submit(calm.spec(name, "trap 'say term; exit 5' TERM; while :; do sleep 0.05; done", driver=driver))
    await wait_until(lambda: calm.starts(name) == [1], "it runs")
    answer = calm.http.post(f"/v1/jobs/{job_id}/cancel").json()
    assert answer["status"]["cancel_requested"]
    (job,) = await calm.over(job_id)
    assert (job["state"], last(job)["state"], last(job)["cause"]) == ("cancelled", "cancelled", "cancelled")
    assert calm.starts(name) == [1]
    again = calm.http.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["state"]) == (202, "cancelled")
    calm.reconcile([job])


@BOTH
async def test_what_ignores_sigterm_is_gone_a_moment_after_its_grace(calm: Cluster, driver: str) -> None:
    name = f"stubborn-{driver}"
    script = "trap '' TERM; while :; do sleep 0.1; say alive; done"
    job_id = calm.submit(calm.spec(name, script, driver=driver, stop_grace=2))
    await wait_until(lambda: len(calm.evidence(name)) > 2, "it runs")
    asked = time.monotonic()
    calm.http.post(f"/v1/jobs/{job_id}/cancel")
    (job,) = await calm.over(job_id)
    took = time.monotonic() - asked
    assert job["state"] == "cancelled"
    assert took > 1.9, "it had its grace"
    last_sign = calm.evidence(name)[-1]
    (after,) = await calm.over(calm.submit(calm.spec(f"{name}-later", "sleep 0.3", driver=driver)))
    assert after["state"] == "succeeded"
    assert calm.evidence(name)[-1] == last_sign  # 0.3 s on and not a word: it is gone


async def test_cancel_between_two_attempts(calm: Cluster) -> None:
    job_id = calm.submit(calm.spec("waits", "exit 1", backoff={"initial": 600, "max": 600}))
    await wait_until(lambda: calm.job(job_id)["status"]["retries"] == 1, "its first attempt is over")
    assert calm.http.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert calm.starts("waits") == [1]
    calm.reconcile([calm.job(job_id)])


async def test_retry_of_one_that_waits_goes_at_once_and_of_one_that_is_over_makes_another(calm: Cluster) -> None:
    spec = calm.spec("again", "[ $WINDLASS_ATTEMPT -gt 1 ]", backoff={"initial": 600, "max": 600})
    job_id = calm.submit(spec)
    await wait_until(lambda: calm.job(job_id)["status"]["retries"] == 1, "its first attempt is over")
    assert calm.http.post(f"/v1/jobs/{job_id}/retry").status_code == 200
    (job,) = await calm.over(job_id)
    assert (job["state"], calm.starts("again")) == ("succeeded", [1, 2])
    calm.reconcile([job])
    answer = calm.http.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "again-1"})
    assert (answer.status_code, answer.json()["retry_of"]) == (201, job_id)
    same = calm.http.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "again-1"})
    assert (same.status_code, same.json()["id"]) == (200, answer.json()["id"])
    assert answer.json()["id"] != job_id
    calm.http.post(f"/v1/jobs/{answer.json()['id']}/cancel")


async def test_delete_takes_a_job_that_is_over_and_refuses_one_that_is_not(calm: Cluster) -> None:
    job_id = calm.submit(calm.spec("goes", "echo words; sleep 60"))
    await calm.state(job_id, "running")
    assert calm.http.delete(f"/v1/jobs/{job_id}").status_code == 409
    calm.http.post(f"/v1/jobs/{job_id}/cancel")
    await calm.over(job_id)
    assert calm.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    for path in ("", "/logs", "/events"):
        assert calm.http.get(f"/v1/jobs/{job_id}{path}").status_code == 404


@pytest.mark.docker
async def test_an_image_that_does_not_exist_is_retried_then_failed_and_blocks_nobody(calm: Cluster) -> None:
    missing = calm.spec("no-image", driver="docker", max_retries=1) | {"image": "127.0.0.1:9/windlass-test/none:1"}
    bad = calm.submit(missing)
    (good,) = await calm.over(calm.submit(calm.spec("good-image", driver="docker")))
    assert good["state"] == "succeeded"
    (job,) = await calm.over(bad)
    assert (job["state"], [a["cause"] for a in job["status"]["attempts"]]) == ("failed", ["image_pull"] * 2)
    assert "127.0.0.1:9" in last(job)["message"]
    assert calm.evidence("no-image") == []


@pytest.mark.docker
async def test_a_container_killed_from_outside_is_a_signal_and_costs_a_retry(calm: Cluster) -> None:
    script = "[ $WINDLASS_ATTEMPT -gt 1 ] || sleep 60"
    job_id = calm.submit(calm.spec("shot", script, driver="docker", max_retries=1))
    await wait_until(lambda: calm.starts("shot") == [1], "it runs")
    container = calm.job(job_id)["status"]["attempts"][0]["id"]
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    (job,) = await calm.over(job_id)
    first, second = job["status"]["attempts"]
    assert (first["state"], first["exit_code"], first["cause"]) == ("failed", 137, "signal")
    assert (second["state"], job["status"]["retries"], job["status"]["infra_losses"]) == ("succeeded", 1, 0)
    assert calm.starts("shot") == [1, 2]
    calm.reconcile([job])
