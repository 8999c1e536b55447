"""A pytest plugin that writes down how each test went, for who runs the suite: `-p tests.record --record FILE`."""

import json
from pathlib import Path

import pytest

#: The phase in which a file, not a test, fails.
COLLECTING = "collecting"


@pytest.hookimpl
def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, metavar="FILE", help="append a line of JSON for each phase of each test")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("record")
    if path is not None and not hasattr(config, "workerinput"):  # pytest-xdist's controller hears of all of them
        config.pluginmanager.register(_Record(path))


class _Record:
    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write(report, report.when or "", report.duration)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(report, COLLECTING, 0.0)

    def _write(self, report: pytest.TestReport | pytest.CollectReport, phase: str, seconds: float) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = (crash.message if crash else str(report.longrepr)).strip().splitlines()
        failed = f"{phase}: {lines[0] if lines else ''}" if report.failed else None
        line = {"test": report.nodeid, "seconds": seconds, "failed": failed}
        with self._path.open("a") as record:
            record.write(json.dumps(line) + "\n")
