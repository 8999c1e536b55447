"""The demo as a newcomer runs it, in a folder with spaces in its name, with and without a Docker Engine; only the batch
is shorter."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.test_up import left_in

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BATCH = 24
NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


@pytest.fixture
def examples(roomy_folder: Path) -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="a clone in "))
    parent.chmod(0o711)
    copy = shutil.copytree(EXAMPLES, parent / "examples")
    head, *rest = (copy / "batch.yaml").read_text().split("- {<<: *part")
    (copy / "batch.yaml").write_text("- {<<: *part".join([head, *rest[: BATCH - 1]]))
    yield copy
    shutil.rmtree(parent)


@pytest.fixture
def temp(roomy_folder: Path) -> Path:
    """Where the demo puts its own folder: whatever is in here at the end was left behind."""
    place = Path(tempfile.mkdtemp(dir=roomy_folder))
    place.chmod(0o711)
    return place


def demo(examples: Path, temp: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-B", str(examples / "demo.py")],
        env=os.environ | {"TMPDIR": str(temp)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert list(temp.iterdir()) == []
    assert left_in(temp) == {}
    return done


def images() -> set[str]:
    order = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "windlass-demo/*"]
    return set(subprocess.run(order, capture_output=True, text=True, check=True).stdout.split())


def test_without_an_engine_it_says_so_and_runs_the_same_work(examples: Path, temp: Path) -> None:
    done = demo(examples, temp, NOWHERE)
    assert done.returncode == 0, done.stdout
    assert "no Docker Engine answers" in done.stdout
    assert "the chain is done" in done.stdout
    assert f"{BATCH} of {BATCH} have ended" in done.stdout


@pytest.mark.docker
def test_with_an_engine_it_runs_containers_and_leaves_no_image(examples: Path, temp: Path) -> None:
    before = images()
    done = demo(examples, temp, {})
    assert done.returncode == 0, done.stdout
    results = done.stdout.split("== results")[1]
    assert results.count(" container ") == 6, results
    assert images() <= before


def test_what_goes_wrong_is_not_hidden(examples: Path, temp: Path) -> None:
    job = examples / "chain.yaml"
    job.write_text(job.read_text().replace("seq 1 1000 > numbers", "false") + "max_retries: 0\n")
    done = demo(examples, temp, NOWHERE)
    assert done.returncode == 1
    assert "demo: shell-chain: ('failed', 1, 'exit_code')" in done.stdout


def test_it_is_what_make_demo_runs() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1].endswith('/bin"/python examples/demo.py')
