"""Scheduled starts, and clocks that jump by an hour while jobs run: no loss, no limit that falls early or late."""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.system.cluster import Cluster, Role
from tests.system.test_outages import all_ran_once


async def test_a_job_starts_at_its_moment(calm: Cluster):
    moment = datetime.now(UTC) + timedelta(seconds=3)
    spec = calm.spec("timed", not_before=moment.isoformat(), labels={"test": "begin"})
    at = calm.submit(spec)
    after = calm.submit(calm.spec("delayed", start_delay="2s", queue_timeout="1s"))
    past = calm.submit(calm.spec("past", not_before="2020-01-01T00:00:00+01:00"))
    job = calm.job(at)
    assert job["state"] == "queued"
    assert job["status"]["reason"] == f"starts at {moment:%Y-%m-%dT%H:%M:%S}Z"
    assert f"starts at {moment:%Y-%m-%d}" in calm.cli("why", at).stdout
    early, delayed, timed = await calm.over(past, after, at)
    all_ran_once(calm, [early, delayed, timed])
    started = datetime.fromisoformat(timed["status"]["attempts"][0]["started_at"])
    assert started >= moment
    assert datetime.fromisoformat(early["status"]["attempts"][0]["placed_at"]) < moment
    waited = datetime.fromisoformat(delayed["status"]["attempts"][0]["placed_at"]) - datetime.fromisoformat(
        delayed["created_at"]
    )
    assert waited >= timedelta(seconds=2)
    assert "job.queued" in [event["type"] for event in calm.events(at)]


async def test_a_job_that_waits_for_its_moment_can_be_cancelled(calm: Cluster):
    answer = calm.cli("run", "--detach", "--begin", "10m", "--driver", "process", "--", "true")
    job_id = answer.stdout.strip()
    assert calm.job(job_id)["status"]["reason"].startswith("starts at ")
    calm.http.post(f"/v1/jobs/{job_id}/cancel")
    (job,) = await calm.over(job_id)
    assert job["state"] == "cancelled"


class Clock:
    """The wall clock of some roles, and of nothing else; monotonic clocks go on."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")

    def set(self, offset: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset + "\n")
        fresh.rename(self._file)

    def given(self) -> dict[str, str]:
        """The variables a role gets."""
        return {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def _library() -> str:
    """Where libfaketime is."""
    faketime = shutil.which("faketime")
    assert faketime is not None, "the tests of clocks need faketime (Debian: faketime)"
    listed = subprocess.run([faketime, "-f", "+0", "env"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"LD_PRELOAD=(?:.*:)?(\S*libfaketime\S*)", listed)
    assert found is not None, listed
    return found[1]


@pytest.fixture
def clock(cluster: Cluster) -> Clock:
    return Clock(cluster.folder)


def under(clock: Clock, role: Role) -> Role:
    """The role once more, with this clock."""
    role.kill()
    return role.start(**clock.given())


async def test_wall_clocks_jump_while_jobs_run(cluster: Cluster, clock: Clock):
    """API, scheduler and worker each live through +1 h, -1 h and a strobe."""
    roles = [cluster.api(), cluster.scheduler(), cluster.worker()]
    clock.set("+3600")
    for role in roles:
        under(clock, role)
    await cluster.ready()
    times = [datetime.fromisoformat(at) for at in re.findall(r'"time": "([^"]+)"', roles[1].said() + roles[2].said())]
    assert max(times) - datetime.now(UTC) > timedelta(minutes=50), "their clocks are ahead"
    running = cluster.submit_all([cluster.spec(f"long{n}", "sleep 8", attempt_timeout="60s") for n in range(3)])
    for job_id in running:
        await cluster.state(job_id, "running")
    soon = cluster.submit(cluster.spec("soon", start_delay="5s"))
    again = cluster.submit(
        cluster.spec("again", "test $WINDLASS_ATTEMPT = 3", backoff={"initial": 1, "factor": 1, "jitter": 0})
    )
    others: list[str] = []
    for offset in ("-3600", "+3600", "-3600", "+1800", "+0", "-7200", "+3600", "+0"):
        clock.set(offset)
        mark = len(others)
        others.append(cluster.submit(cluster.spec(f"at{mark}", job_deadline="60s")))
        await cluster.over(others[-1])
    jobs = await cluster.over(*running, soon, *others)
    all_ran_once(cluster, jobs)
    (tried,) = await cluster.over(again)
    assert cluster.starts("again") == [1, 2, 3]
    assert tried["status"]["retries"] == 2
    assert {job["status"]["infra_losses"] for job in [*jobs, tried]} == {0}
    assert roles[1].said().count('"leading"') <= 2, "one term before the restart, one after"
    assert '"lost"' not in roles[1].said()
