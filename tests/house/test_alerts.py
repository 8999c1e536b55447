"""Every alert has what whoever is woken by it needs: a summary, a page, and a test that it fires and clears."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.prometheus import DEPLOY, panels, prometheus_missing, rules
from windlass.core.quantity import parse_duration

ROOT = DEPLOY.parent
ALERTS = {rule["alert"]: rule for rule in rules("alerts")}
TESTS = yaml.safe_load((DEPLOY / "prometheus/tests/alerts.yml").read_text())["tests"]
RUNBOOKS = ROOT / "docs/runbooks"
needs_promtool = pytest.mark.skipif(bool(prometheus_missing()), reason=prometheus_missing() or "it is here")


def _ways(expr: str) -> list[str]:
    """The expressions each of which makes an alert of it."""
    return re.split(r"\bor\b", expr)


#: (alert, number of the way) of those that have several.
BRANCHES = [(name, n) for name, rule in ALERTS.items() if (ways := _ways(rule["expr"]))[1:] for n in range(len(ways))]


def _tested(file: Path) -> str:
    """What promtool has against a file of tests."""
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=180)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(name: str):
    alert = ALERTS[name]
    assert re.fullmatch(r"Windlass[A-Z]\w+", name)
    assert parse_duration(alert["for"]) >= 0
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}: ")
    for heading in ("What it means", "What suffers", "What to look at", "What to do"):
        assert f"\n## {heading}\n" in page
    index = (RUNBOOKS / "README.md").read_text()
    assert f"| [{name}]({name}.md) | {alert['labels']['severity']} | {alert['for']} |" in index


def test_the_line_that_makes_full_links_makes_them_of_all(tmp_path: Path):
    (line,) = re.findall(r"^sed -i .*$", (ROOT / "docs/how-to/metrics.md").read_text(), re.MULTILINE)
    copy = tmp_path / "deploy/prometheus/rules/alerts.yml"
    copy.parent.mkdir(parents=True)
    copy.write_text((DEPLOY / "prometheus/rules/alerts.yml").read_text())
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    found = re.findall(r"runbook_url: (\S+)", copy.read_text())
    assert [f"https://windlass.example/docs/runbooks/{name}.md" for name in ALERTS] == found


def test_no_page_without_its_alert():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS) | {"README"}


@pytest.mark.parametrize("name", ALERTS)
def test_the_test_of_an_alert_sees_it_fire_and_clear(name: str):
    cases = [case for test in TESTS for case in test["alert_rule_test"] if case["alertname"] == name]
    fires = [parse_duration(case["eval_time"]) for case in cases if case["exp_alerts"]]
    clears = [parse_duration(case["eval_time"]) for case in cases if not case["exp_alerts"]]
    assert fires
    assert max(clears) > max(fires)


@needs_promtool
def test_promtool_agrees(tmp_path: Path):
    for name in ("alerts", "recording"):
        assert not (fault := _tested(DEPLOY / f"prometheus/tests/{name}.yml")), fault
    config = DEPLOY / "prometheus/prometheus.yml"
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize(("name", "number"), BRANCHES, ids=lambda value: str(value))
def test_each_way_an_alert_may_come_about_has_a_case_of_its_own(name: str, number: int, tmp_path: Path):
    """Without it the alert's tests fail."""
    document = yaml.safe_load((DEPLOY / "prometheus/rules/alerts.yml").read_text())
    (alert,) = [rule for group in document["groups"] for rule in group["rules"] if rule["alert"] == name]
    alert["expr"] = " or ".join(way for n, way in enumerate(_ways(alert["expr"])) if n != number)
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document))
    cases = [test for test in TESTS if any(case["alertname"] == name for case in test["alert_rule_test"])]
    files = [str(DEPLOY / "prometheus/rules/recording.yml"), "alerts.yml"]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": files, "tests": cases}))
    assert "FAILED" in _tested(tmp_path / "tests.yml")


def test_every_recording_rule_is_tested():
    tests = yaml.safe_load((DEPLOY / "prometheus/tests/recording.yml").read_text())["tests"]
    tested = {case["expr"].partition("{")[0] for test in tests for case in test["promql_expr_test"]}
    assert tested == {rule["record"] for rule in rules("recording")}


def test_dashboards_are_what_the_code_makes(tmp_path: Path):
    subprocess.run([sys.executable, "-m", "scripts.dashboards", str(tmp_path)], check=True, cwd=ROOT, timeout=60)
    kept = DEPLOY / "grafana/dashboards"
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in kept.iterdir())
    for name in made:
        assert (tmp_path / name).read_text() == (kept / name).read_text(), "run `make docs`, look, and commit it"


def test_a_dashboard_per_question():
    boards = {name.partition(":")[0] for name, _ in panels()}
    assert boards == {"overview", "jobs", "scheduler", "nodes", "dependencies"}
