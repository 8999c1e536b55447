"""The units for bare hosts, as systemd itself reads them."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.pages import ROOT

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


def _service(unit: Path) -> dict[str, str]:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # pyright: ignore
    parsed.read_string(unit.read_text())
    return dict(parsed["Service"])


def test_each_role_has_a_unit() -> None:
    assert {unit.stem for unit in UNITS} == {"windlass-api", "windlass-scheduler", "windlass-worker"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_no_fault(unit: Path, tmp_path: Path) -> None:
    """On a copy whose program exists: systemd wants a path with no space in it."""
    copy, program = tmp_path / unit.name, tmp_path / "windlass"
    program.symlink_to(sys.executable)
    copy.write_text(unit.read_text().replace("/opt/windlass/bin/windlass", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_its_own_role_with_its_own_settings(unit: Path) -> None:
    role, service = unit.stem.removeprefix("windlass-"), _service(unit)
    assert service["ExecStart"] == f"/opt/windlass/bin/windlass {role}"
    assert service["EnvironmentFile"] == f"/etc/windlass/{role}.env"
    assert (service["User"], service["Restart"]) == ("windlass", "always")


def test_the_watchdog_outlives_its_worker() -> None:
    service = _service(ROOT / "deploy/systemd/windlass-worker.service")
    assert (service["KillMode"], service["RestartKillSignal"]) == ("process", "SIGHUP")
