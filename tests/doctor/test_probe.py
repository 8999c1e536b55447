"""The probe job in a real container: what the standard profile denies is denied, and what is let in is told."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.doctor.sites import found, site
from tests.images import busybox_image
from tests.support import HANG_S
from tests.system.cluster import Cluster
from tests.system.conftest import cluster as cluster  # the fixture
from windlass.client import Job
from windlass.doctor import probe
from windlass.doctor.examine import examine
from windlass.doctor.findings import Finding, Notes, Severity
from windlass.doctor.site import Role

SCRIPT = Path(probe.__file__).with_name("probe.sh")
#: What nothing on this machine may let through.
DENIED = {"mount", "mknod", "namespaces", "raw_socket", "kernel_settings", "sysrq", "kernel_memory", "cgroups", "disks",
          "engine_socket", "host_processes", "ptrace", "setuid", "system_calls", "capabilities", "job"}  # fmt: skip


async def start(cluster: Cluster, profile: str) -> None:
    cluster.api()
    cluster.scheduler()
    cluster.worker(drivers="docker", allow_process="false", profile=profile)
    await cluster.ready()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("profile", "held"),
    [("standard", "CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID"), ("restricted", "none")],
)
async def test_a_job_of_each_profile_is_denied_all_of_it(cluster: Cluster, profile: str, held: str) -> None:
    await start(cluster, profile)
    done = cluster.cli("doctor", "--role", "client", "--probe", "--image", busybox_image(), "-o", "json")
    told = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert {name: told[f"probe.{name}"]["severity"] for name in DENIED} == dict.fromkeys(DENIED, "ok"), told
    assert told["probe.capabilities"]["what"] == f"capabilities: {held}"
    assert "works" not in str(told)
    assert "probe.metadata" in told
    assert done.returncode == 0, done.stdout
    assert cluster.jobs() == []


def judged(said: str) -> dict[str, Finding]:
    notes = Notes("probe")
    probe.judge(Job(id="job_1", state="succeeded", created_at=datetime.now(UTC), spec={"image": "x"}), said, notes)
    return {finding.check.removeprefix("probe."): finding for finding in notes.findings}


@pytest.mark.docker
def test_what_a_container_without_any_guard_may_do_is_told() -> None:
    """The script itself, as the engine would run it for somebody careless; network none, for no cloud is asked."""
    guards = ["--security-opt=seccomp=unconfined", "--pid=host", "--network=none",
              "-v", "/var/run/docker.sock:/var/run/docker.sock"]  # fmt: skip
    order = ["docker", "run", "--rm", *guards, busybox_image(), "sh", "-c", SCRIPT.read_text()]
    said = subprocess.run(order, capture_output=True, text=True, timeout=HANG_S, check=True).stdout
    told = judged(said)
    allowed = {name for name, finding in told.items() if finding.severity is Severity.ERROR}
    assert allowed == {"mknod", "raw_socket", "engine_socket", "host_processes", "ptrace", "setuid", "system_calls",
                       "capabilities"}, said  # fmt: skip
    assert all(told[name].fix for name in allowed)
    assert told["metadata"].severity is Severity.OK


def test_what_was_not_tried_goes_by_the_capability_it_needs() -> None:
    for mask, severity in (("0", Severity.OK), ("200000", Severity.SKIPPED)):
        said = f"probe mount untried the image has no mount\nprobe capabilities value {mask} 0\nprobe done denied\n"
        assert judged(said)["mount"].severity is severity


def test_metadata_that_answers_is_a_warning() -> None:
    said = "probe metadata allowed it answers\nprobe capabilities value 0 0\nprobe done denied\n"
    assert judged(said)["metadata"].severity is Severity.WARNING


@pytest.mark.docker
async def test_an_image_without_a_shell_is_named(cluster: Cluster) -> None:
    await start(cluster, "standard")
    done = cluster.cli("doctor", "--role", "client", "--probe", "--image", "nowhere.invalid/none:1")
    assert done.returncode == 1
    assert "the probe of 'nowhere.invalid/none:1' ended failed" in done.stdout


async def test_without_an_api_it_says_so() -> None:
    looked = site(Role.CLIENT)
    told = found(await examine(type(looked)(looked.settings, looked.role, url="http://127.0.0.1:9", probe="busybox")))
    assert "cannot reach" in told["probe.job"].what
