"""The manifests on the page are what Kubernetes takes."""

import re
from typing import Any

import pytest
import yaml

from tests.kubernetes.schemas import all_faults
from tests.kubernetes.test_worker import PAGE

BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
OBJECTS: list[dict[str, Any]] = [one for block in BLOCKS for one in yaml.safe_load_all(block)]
OURS = [one for one in OBJECTS if "kind" in one and not one["apiVersion"].startswith("keda.sh/")]


@pytest.mark.parametrize("thing", OURS, ids=lambda one: one["kind"])
def test_each_object_is_valid(thing: dict[str, Any]):
    assert not all_faults(thing)


def test_the_gauge_has_its_true_name():
    (hpa,) = [one for one in OBJECTS if one.get("kind") == "HorizontalPodAutoscaler"]
    (rules,) = [one["externalRules"] for one in OBJECTS if "externalRules" in one]
    names = {hpa["spec"]["metrics"][0]["external"]["metric"]["name"], rules[0]["seriesQuery"], rules[0]["name"]["as"]}
    assert names == {"windlass_scaling_needed_workers"}
    assert f"`{names.pop()}`" in (PAGE.parents[1] / "reference/metrics.md").read_text()
