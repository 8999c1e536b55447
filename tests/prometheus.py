"""A real Prometheus with the rules of deploy/prometheus over whatever pages a test has, and what our queries name."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.ports import reserved_port
from tests.support import wait_until
from windlass.embedded.child import last_words

DEPLOY = Path(__file__).parents[1] / "deploy"
#: What Prometheus itself makes; the first two only once there is a reason.
ITS_OWN = frozenset({"ALERTS", "ALERTS_FOR_STATE", "up"})
#: Prometheus' answer: one entry per series.
Found = list[dict[str, Any]]

_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "group_left", "group_right", "by", "on", "without", "inf"})


@cache
def prometheus_missing() -> str:
    """Why no test with a real Prometheus can run here; "" when they can."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} on this machine (Debian: prometheus)" if missing else ""


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of a file in deploy/prometheus/rules: `alerts` or `recording`."""
    document = yaml.safe_load((DEPLOY / f"prometheus/rules/{kind}.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """Every query of every dashboard as the page would ask it: (dashboard, panel and letter; expression)."""
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets") or ():
                expr = target["expr"].replace("$__rate_interval", "8s").replace("$node", ".*")
                yield f"{path.stem}: {panel['title']} {target['refId']}", expr


def choices() -> Iterator[tuple[str, str, str]]:
    """Every choice of a dashboard that a query fills: (dashboard and variable; metric, label) of its label_values."""
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        for one in json.loads(path.read_text())["templating"]["list"]:
            if one["type"] == "query":
                found = re.fullmatch(r"label_values\((\w+), (\w+)\)", one["query"])
                assert found, one["query"]
                yield f"{path.stem}: {one['name']}", *found.groups()


def names(expr: str) -> set[str]:
    """The metrics an expression names."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expr)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    found = re.findall(r"(?<![\w.:])[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)
    return {word for word in found if word not in _WORDS}


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=f"{url}/api/v1/", timeout=20)

    def get(self, path: str, **query: str) -> Any:
        answer = self._http.get(path, params=query).json()
        assert answer["status"] == "success", (path, query, answer)
        return answer["data"]

    def ask(self, expr: str) -> Found:
        """What an expression gives now; numbers that are none are left out."""
        return [one for one in self.get("query", query=expr)["result"] if one["value"][1] != "NaN"]

    def names(self) -> set[str]:
        """Every metric there is."""
        return set(self.get("label/__name__/values"))

    def scraped(self) -> bool:
        """Whether every target has been reached."""
        targets = self.get("targets")["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def close(self) -> None:
        self._http.close()


def _configuration(targets: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """That of deploy/prometheus with these ports of each job, looked at each second."""
    made = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    made["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    made["rule_files"] = [str(DEPLOY / "prometheus/rules/*.yml")]
    jobs = {job["job_name"]: job for job in made["scrape_configs"]}
    assert set(targets) == set(jobs) - {"prometheus"}
    made["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        for name, ports in targets.items()
    ]
    return made


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[int]]) -> Iterator[Prometheus]:
    """A Prometheus of our own over these pages, with all rules."""
    port, log = reserved_port(), folder / "prometheus.log"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(targets)))
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=out, stderr=out)
    made = Prometheus(f"http://127.0.0.1:{port}")
    try:
        yield made
    finally:
        made.close()
        process.terminate()
        assert process.wait(20) == 0, last_words(log, 15)


async def ready(made: Prometheus) -> None:
    """Every page has been read once."""

    def reached() -> bool:
        try:
            return made.scraped()
        except (httpx2.TransportError, ValueError):  # not yet there, or there and not yet ready
            return False

    await wait_until(reached, "Prometheus has read every page")
