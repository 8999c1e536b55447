"""No Grafana can be had where the tests run. So what is written for it is held against its own schema: the dashboards
against the models it publishes (grafana-foundation-sdk), the provisioning files against the keys it reads there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins

from tests.house.pages import ROOT

#: Those of the schema's first version are said to be old; Grafana 12 provisions from files in that one.
pytestmark = pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")

GRAFANA = ROOT / "deploy/grafana"
BOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
SOURCES = yaml.safe_load((GRAFANA / "provisioning/datasources/windlass.yml").read_text())
PROVIDERS = yaml.safe_load((GRAFANA / "provisioning/dashboards/windlass.yml").read_text())
SERVICE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
#: The keys of provisioning files that Grafana 12 reads (pkg/services/provisioning/{datasources,dashboards}/types.go);
#: it skips others without a word.
SOURCE_KEYS = set("""orgId orgName version name type access url user database basicAuth basicAuthUser withCredentials
isDefault correlations jsonData secureJsonData editable uid""".split())  # fmt: skip # noqa: SIM905
PROVIDER_KEYS = set("""name type orgId folder folderUid editable options disableDeletion updateIntervalSeconds
allowUiUpdates""".split())  # fmt: skip # noqa: SIM905


def lost(given: Any, kept: Any, place: str = "") -> Iterator[str]:
    """Where two documents differ."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key in sorted(given.keys() | kept.keys()):
            yield from lost(given.get(key), kept.get(key), f"{place}.{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif given != kept:
        yield f"{place}: {given!r} became {kept!r}"


def through_the_schema(board: dict[str, Any]) -> dict[str, Any]:
    """The dashboard as Grafana's models have it: keys and panels' options they don't know are gone."""
    from grafana_foundation_sdk.models.dashboard import Dashboard  # warns as soon as it is imported

    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(board)))


@pytest.mark.parametrize("file", BOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_all_in_grafanas_schema(file: Path) -> None:
    board = json.loads(file.read_text())
    assert not list(lost(board, through_the_schema(board)))
    [variable] = [one for one in board["templating"]["list"] if one["type"] == "datasource"]
    assert {source["type"] for source in SOURCES["datasources"]} == {variable["query"]}
    named = {panel["datasource"]["uid"] for panel in panels(board) if "datasource" in panel}
    assert named == {f"${{{variable['name']}}}"}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def test_the_schema_sees_a_key_that_is_none_of_its_own() -> None:
    board = json.loads(BOARDS[0].read_text())
    next(panels(board))["no_such_key"] = 1
    assert any("no_such_key" in fault for fault in lost(board, through_the_schema(board)))


def test_what_provisions_has_the_keys_grafana_reads() -> None:
    assert SOURCES.keys() <= {"apiVersion", "datasources", "deleteDatasources", "prune"}
    assert PROVIDERS.keys() <= {"apiVersion", "providers"}
    assert SOURCES["apiVersion"] == PROVIDERS["apiVersion"] == 1
    for source in SOURCES["datasources"]:
        assert source.keys() <= SOURCE_KEYS
        assert {"name", "type", "access", "url"} <= source.keys()
    for provider in PROVIDERS["providers"]:
        assert provider.keys() <= PROVIDER_KEYS


def test_compose_puts_it_where_grafana_looks() -> None:
    mounts = dict(volume.split(":")[1::-1] for volume in SERVICE["volumes"])
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    [provider] = PROVIDERS["providers"]
    assert mounts[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    home = Path(SERVICE["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (GRAFANA / "dashboards" / home.name).exists()
    [source] = SOURCES["datasources"]
    assert source["url"].removeprefix("$") in SERVICE["environment"]


@pytest.mark.parametrize("file", BOARDS, ids=lambda file: file.stem)
def test_every_panel_has_words_a_unit_and_a_runbook_that_exists(file: Path) -> None:
    board = json.loads(file.read_text())
    [base] = [one for one in board["templating"]["list"] if one["name"] == "runbooks"]
    assert base["query"] == "/public/runbooks"
    mounts = dict(volume.split(":")[1::-1] for volume in SERVICE["volumes"])
    folder = ROOT / mounts["/usr/share/grafana/public/runbooks"]
    for panel in panels(board):
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
        assert panel["links"], panel["title"]
        for link in panel["links"]:
            assert (folder / link["url"].removeprefix("${runbooks}/")).is_file(), link["url"]


@pytest.mark.parametrize("file", BOARDS, ids=lambda file: file.stem)
def test_elections_and_drains_are_marked(file: Path) -> None:
    marks = json.loads(file.read_text())["annotations"]["list"]
    assert [mark["name"] for mark in marks if mark["enable"]] == ["Elections", "Drains"]
    named = {name for mark in marks for name in re.findall(r"windlass_\w+", mark["expr"])}
    assert named == {"windlass_leader_terms_total", "windlass_nodes"}
