"""`windlass chaos` itself, and the share of it that every change must stand: 22 faults of a process cluster, 8 of a
container cluster. The long faults (a node lost for good) have tests of their own."""

import asyncio
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.images import busybox_image
from windlass.chaos.cluster import mentioning
from windlass.chaos.faults import FAULTS
from windlass.chaos.load import Load
from windlass.chaos.oracle import Verdict
from windlass.chaos.report import make
from windlass.chaos.run import Chaos
from windlass.cli.chaos import Form
from windlass.cli.chaos import chaos as command
from windlass.store.inspection import Books

pytestmark = pytest.mark.alone

LONG = {
    "worker-loss",
    "worker-freeze",
    "worker-cut-off",
    "worker-deaf",
    "worker-no-api",
    "worker-drain",
    "redis-freeze",
}
SHORT = [name for name in FAULTS if name not in LONG | {"container-kill"}]
#: What hurts no node: nothing that runs may be run again because of it.
CONTROL = [name for name in SHORT if FAULTS[name].component in ("api", "scheduler", "postgres", "redis")]
IN_CONTAINERS = "container-kill,leader-kill,worker-restart,worker-nap,watchdog-kill,flushall,api-kill,postgres-fast"


def chaos(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "windlass", "chaos", *options],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def checked(done: subprocess.CompletedProcess[str], faults: int, jobs: int) -> dict[str, Any]:
    """The report of a run in which every promise held."""
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["good"]
    assert not any(report["broken"].values())
    assert report["faults"]["count"] == len(report["timeline"]) == faults
    assert report["jobs"]["accepted"] >= jobs
    assert report["jobs"]["runs"] >= report["jobs"]["accepted"] - len(report["jobs"]["given_up"])
    assert all(fault["recovered_s"] is not None for fault in report["timeline"])
    return report


def some(kinds: list[str], count: int, seed: int) -> tuple[str, ...]:
    """Return options for so many faults of these kinds. The duration only bounds them: a slot may be long in coming."""
    options = ("--duration", "200s", "--every", "0.7s", "--count", str(count), "--seed", str(seed))
    return (*options, "--faults", ",".join(kinds))


def test_twelve_faults_of_a_process_cluster(tmp_path: Path, roomy_folder: Path) -> None:
    done = chaos(*some(SHORT, 12, 11), "-o", "json", "--report", str(tmp_path), TMPDIR=str(roomy_folder))
    report = checked(done, 12, 30)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert "every promise held" in (tmp_path / "report.txt").read_text()
    titles = [one.text for one in ET.parse(tmp_path / "timeline.svg").iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) >= report["faults"]["count"]
    assert not list(roomy_folder.glob("windlass-chaos-*"))
    assert not list(mentioning(roomy_folder / "windlass-chaos-"))


def test_ten_faults_that_hurt_no_node_run_nothing_twice() -> None:
    report = checked(chaos(*some(CONTROL, 10, 13), "-o", "json"), 10, 25)
    assert report["jobs"]["runs_extra"] == 0
    assert report["jobs"]["runs_cut_off"] == 0


@pytest.mark.docker
def test_eight_faults_of_a_container_cluster() -> None:
    options = ("--driver", "docker", "--image", busybox_image(), "--load", "1.5", "--faults", IN_CONTAINERS)
    done = chaos(*options, "--duration", "200s", "--every", "2s", "--count", "8", "--seed", "12", "-o", "json")
    checked(done, 8, 15)


@pytest.mark.parametrize("form", list(Form))
def test_a_broken_promise_is_exit_code_1(
    form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose oracle found something: the rest of the way is the command's own."""

    async def found(self: Chaos, stop: asyncio.Event) -> None:
        verdict = Verdict(accepted=1)
        verdict.breaks("lost", "job 7 is not on record")
        nothing = Books([], [], [], [], {})
        load = Load([], tmp_path, {}, random.Random(0))
        self.report = make(3, "process", (0.0, 1.0), verdict, [], load, [], nothing, {})

    monkeypatch.setattr(Chaos, "run", found)
    assert command(duration="1s", output=form, report=tmp_path) == 1
    said = capsys.readouterr().out
    assert "job 7 is not on record" in said
    assert json.loads((tmp_path / "report.json").read_text())["good"] is False
    assert "A PROMISE BROKE" in (tmp_path / "report.txt").read_text()


def test_a_kind_nobody_knows_is_wrong_usage() -> None:
    done = chaos("--faults", "leader-kill,gremlins")
    assert done.returncode == 2
    assert "gremlins" in done.stderr
