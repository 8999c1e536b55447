"""`windlass chaos` itself, and the share of it that every change must stand: some 40 faults of a process cluster, 10 of
a container cluster. The long faults (a node lost for good) have tests of their own."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.images import busybox_image
from windlass.chaos.cluster import mentioning
from windlass.chaos.faults import FAULTS

pytestmark = pytest.mark.system

LONG = {
    "worker-loss",
    "worker-freeze",
    "worker-cut-off",
    "worker-deaf",
    "worker-no-api",
    "worker-drain",
    "redis-freeze",
}
SHORT = ",".join(name for name in FAULTS if name not in LONG | {"container-kill"})
IN_CONTAINERS = "container-kill,leader-kill,worker-restart,worker-nap,watchdog-kill,flushall,api-kill,postgres-fast"


def chaos(*options: str, within: float, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "windlass", "chaos", *options],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def checked(done: subprocess.CompletedProcess[str], faults: int, jobs: int) -> dict[str, Any]:
    """The report of a run in which every promise held."""
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["good"]
    assert not any(report["broken"].values())
    assert report["faults"]["count"] == len(report["timeline"]) >= faults
    assert report["jobs"]["accepted"] >= jobs
    assert report["jobs"]["runs"] >= report["jobs"]["accepted"] - len(report["jobs"]["given_up"])
    assert all(fault["recovered_s"] is not None for fault in report["timeline"])
    return report


@pytest.mark.timeout(150)
def test_forty_faults_of_a_process_cluster(tmp_path: Path, roomy_folder: Path) -> None:
    options = ("--duration", "32s", "--every", "0.7s", "--count", "40", "--seed", "11", "--faults", SHORT)
    done = chaos(*options, "-o", "json", "--report", str(tmp_path), within=140, TMPDIR=str(roomy_folder))
    report = checked(done, 25, 120)
    assert report["faults"]["count"] <= 40
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert "every promise held" in (tmp_path / "report.txt").read_text()
    titles = [one.text for one in ET.parse(tmp_path / "timeline.svg").iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) >= report["faults"]["count"]
    assert not list(roomy_folder.glob("windlass-chaos-*"))
    assert not list(mentioning(roomy_folder / "windlass-chaos-"))


@pytest.mark.docker
@pytest.mark.timeout(120)
def test_ten_faults_of_a_container_cluster() -> None:
    options = ("--driver", "docker", "--image", busybox_image(), "--load", "1.5", "--faults", IN_CONTAINERS)
    done = chaos(
        *options, "--duration", "30s", "--every", "2s", "--count", "10", "--seed", "12", "-o", "json", within=110
    )
    checked(done, 8, 20)


def test_a_kind_nobody_knows_is_wrong_usage() -> None:
    done = chaos("--faults", "leader-kill,gremlins", within=30)
    assert done.returncode == 2
    assert "gremlins" in done.stderr
