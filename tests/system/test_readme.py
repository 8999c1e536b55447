"""The README's five minutes, typed in: every command is run, and must say what the README says it says.

What differs from run to run is not compared: ids, durations, and whatever the README writes as `…`.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.images import busybox_image
from tests.system.test_up import Up

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
MARK = "\x1e"


class Typed(NamedTuple):
    """A command as it is typed, and what is shown below it."""

    command: str
    shown: str


def blocks() -> list[list[Typed]]:
    """The tour's console blocks."""
    tour = ROOT.joinpath("README.md").read_text().split("## Five minutes")[1].split("\n## ")[0]
    return [typed(block) for block in re.findall(r"```console\n(.*?)```", tour, re.DOTALL)]


def typed(block: str) -> list[Typed]:
    found: list[Typed] = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = lines.index("END") if "<<'END'" in lines[0] else 0
        found.append(Typed("\n".join(lines[: end + 1]), "\n".join(lines[end + 1 :])))
    return found


STARTS, *TOUR = blocks()


def run(script: list[Typed], url: str, folder: Path) -> list[str]:
    """What each command says when all are typed into one shell."""
    text = "".join(f"{step.command}\nrc=$?; printf '{MARK}'; (exit $rc)\n" for step in script)
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-s"],
        input=text,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "WINDLASS_URL": url, "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout.split(MARK)[:-1]


def same(said: str, shown: str) -> bool:
    wanted = ".*".join(re.escape(part) for part in steady(shown).split("…"))
    return re.fullmatch(wanted, steady(said), re.DOTALL) is not None


def steady(text: str) -> str:
    """The text without what differs from run to run."""
    text = re.sub(r"\b(job|att|node)_[0-9a-z]{26}\b", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? ?s\b", "TIME", text)
    return re.sub(r"[ \t]+", " ", text).strip()


@pytest.fixture
def folder(roomy_folder: Path) -> Path:
    """Where it is typed: the examples are there."""
    place = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="the tour "))
    place.chmod(0o711)
    place.joinpath("examples").symlink_to(ROOT / "examples")
    return place


@pytest.fixture
def up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    monkeypatch.setenv("WINDLASS_WORKER_NAME", "vm")
    options = STARTS[0].command.split()
    assert options[:2] == ["windlass", "up"]
    up = Up(folder / "data", *options[2:])
    yield up
    if up.process.poll() is None:
        up.process.terminate()
        up.process.wait(20)
    up.close()


@pytest.mark.parametrize(
    "docker", [pytest.param(False, id="processes"), pytest.param(True, marks=pytest.mark.docker, id="containers")]
)
async def test_the_five_minutes_are_as_shown(up: Up, folder: Path, docker: bool) -> None:
    await up.ready()
    assert same(up.said().replace(str(up.port), "8000"), STARTS[0].shown), up.said()
    script = [step for block in TOUR for step in block if ("--image" in step.command) == docker]
    if docker:
        script = [step._replace(command=step.command.replace("busybox", busybox_image())) for step in script]
    said = await asyncio.to_thread(run, script, f"http://127.0.0.1:{up.port}", folder)
    assert len(said) == len(script), f"the shell ended early; it said {said}"
    for step, words in zip(script, said, strict=True):
        assert same(words, step.shown), f"$ {step.command}\n{words}\n-- the README shows:\n{step.shown}"


def test_the_tour_has_its_parts() -> None:
    assert len(TOUR) >= 8
    assert any("--image" in step.command for block in TOUR for step in block)


def test_what_the_readme_links_to_is_there() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "examples/README.md"):
        path = ROOT / page
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{page} links to {target}"
