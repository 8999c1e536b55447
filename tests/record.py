"""A pytest plugin that writes down how each test went, for who runs the suite: `-p tests.record --record FILE`."""

import json
from pathlib import Path

import pytest


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
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = (crash.message if crash else str(report.longrepr)).strip().splitlines()
        line = {
            "test": report.nodeid,
            "seconds": report.duration,
            "failed": f"{report.when}: {lines[0] if lines else ''}" if report.failed else None,
        }
        with self._path.open("a") as record:
            record.write(json.dumps(line) + "\n")
