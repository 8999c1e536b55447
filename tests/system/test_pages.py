"""What the README and the documents show, typed in: every console block is run, and must say what the page says.

All pages share one cluster, started as the README starts it. Each page has a shell and a folder of its own, with the
examples in it. What differs from run to run is not compared: ids, durations, and whatever a page writes as `…`. A block
of Python is a script that must end well; one of text right below it is what it prints.
"""

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.house.pages import ROOT, Block, Typed, blocks, pages, typed
from tests.images import busybox_image
from tests.system.test_up import Up
from windlass import __version__

MARK = "\x1e"
#: What a page may use beside Windlass and what every Debian has.
PROGRAMS = ("curl", "jq")
STARTS = typed(blocks(ROOT / "README.md", "console")[0])[0]


def steps(page: Path) -> list[Typed]:
    """All that a page has typed, but for starting the cluster."""
    found: list[Typed] = []
    shown = blocks(page, "console", "python", "text")
    for block, following in pairwise([*shown, None]):
        if block is None:
            continue
        if block.language == "console":
            found += [step for step in typed(block) if not step.command.startswith("windlass up")]
        elif block.language == "python":
            found.append(script(block, following))
    return found


def script(block: Block, following: Block | None) -> Typed:
    """A block of Python as it would be typed."""
    below = block.line + block.text.count("\n") + 3
    prints = following is not None and following.language == "text" and following.line - below <= 1
    return Typed(f"python3 - <<'END'\n{block.text}END", following.text if following and prints else "")


def in_container(step: Typed) -> bool:
    return "busybox" in step.command


TYPED = {str(page.relative_to(ROOT)): found for page in pages() if (found := steps(page))}
CASES = [
    pytest.param(page, docker, id=f"{page}-{'containers' if docker else 'processes'}", marks=marks)
    for page, found in TYPED.items()
    for docker, marks in ((False, ()), (True, pytest.mark.docker))
    if any(in_container(step) == docker for step in found)
]


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
        check=False,
    )
    return done.stdout.split(MARK)[:-1]


def same(said: str, shown: str) -> bool:
    wanted = ".*".join(re.escape(part) for part in steady(shown).split("…"))
    return re.fullmatch(wanted, steady(said), re.DOTALL) is not None


def steady(text: str) -> str:
    """The text without what differs from run to run."""
    text = re.sub(r"\b(job|att|node|req|sched)_[0-9a-z]{26}\b", "ID", text)
    text = text.replace(__version__, "VERSION")
    text = re.sub(r"\b\d+(\.\d+)? ?s\b", "TIME", text)
    return re.sub(r"[ \t]+", " ", text).strip()


def open_folder(parent: Path) -> Path:
    """A fresh folder that servers and jobs, which run as another user, may enter."""
    place = Path(tempfile.mkdtemp(dir=parent, prefix="the tour "))
    place.chmod(0o711)
    return place


@pytest.fixture(scope="module")
def up(roomy_folder: Path) -> Iterator[Up]:
    """The cluster, as the README starts it."""
    options = STARTS.command.split()
    assert options[:2] == ["windlass", "up"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_WORKER_NAME", "vm")
        up = Up(open_folder(roomy_folder) / "data", *options[2:])
    yield up
    if up.process.poll() is None:
        up.process.terminate()
        up.process.wait(20)
    up.close()


@pytest.fixture
def folder(roomy_folder: Path) -> Path:
    """Where a page is typed: the examples are there."""
    place = open_folder(roomy_folder)
    place.joinpath("examples").symlink_to(ROOT / "examples")
    return place


@pytest.mark.parametrize(("page", "docker"), CASES)
async def test_a_page_is_as_shown(up: Up, folder: Path, page: str, docker: bool) -> None:
    for program in PROGRAMS:
        if shutil.which(program) is None and any(program in step.command for step in TYPED[page]):
            pytest.skip(f"no {program} on this machine")
    await up.ready()
    url = f"http://127.0.0.1:{up.port}"
    script = [step for step in TYPED[page] if in_container(step) == docker]
    if docker:
        script = [step._replace(command=step.command.replace("busybox", busybox_image())) for step in script]
    said = await asyncio.to_thread(run, script, url, folder)
    assert len(said) == len(script), f"the shell ended early; it said {said}"
    for step, words in zip(script, said, strict=True):
        shown = step.shown.replace("http://127.0.0.1:8000", url)
        assert same(words, shown), f"$ {step.command}\n{words}\n-- {page} shows:\n{shown}"


async def test_it_starts_as_the_readme_shows(up: Up) -> None:
    await up.ready()
    assert same(up.said().replace(str(up.port), "8000"), STARTS.shown), up.said()


def test_every_page_starts_the_cluster_alike() -> None:
    """So that one cluster is every page's."""
    starts = [step for page in pages() for block in blocks(page, "console") for step in typed(block)]
    ups = {step.command for step in starts if step.command.startswith("windlass up")}
    assert ups == {STARTS.command}


def test_the_tour_has_its_parts() -> None:
    tour = TYPED["README.md"]
    assert len(tour) >= 15
    assert any(map(in_container, tour))
