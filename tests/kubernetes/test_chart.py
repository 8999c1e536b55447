"""The chart of deploy/helm as Helm itself sees it: what it refuses, and that all that is made from it is current."""

import re
from pathlib import Path
from typing import Any

import pytest
from scripts.chart import Refused, Values, helm_missing, linted, packed, rendered
from scripts.manifests import ELSEWHERE, made

from tests.kubernetes.manifests import NO_QUOTA, VARIANTS, charted, kustomized, of_kind, pods
from windlass.sources import variables

pytestmark = pytest.mark.skipif(bool(helm_missing()), reason=helm_missing() or "it is here")


@pytest.mark.parametrize("variant", VARIANTS)
def test_lint_finds_nothing(variant: str) -> None:
    assert linted(VARIANTS[variant]) == []


def test_what_is_made_from_the_chart_is_current() -> None:
    for path, text in made().items():
        assert path.read_text() == text, f"{path.name}: run `make docs`, look at the difference, commit it"


def test_it_packs_with_the_rules_in_it(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(packed(tmp_path)) as tar:
        names = set(tar.getnames())
    assert {"windlass/values.schema.json", "windlass/rules/alerts.yml", "windlass/rules/recording.yml"} <= names


WRONG: list[tuple[Values, str]] = [
    ({"replicas": 3}, "replicas"),
    ({"api": {"replicas": "three"}}, "/api/replicas.*got string, want integer"),
    ({"api": {"replicas": 0}}, "/api/replicas.*minimum"),
    ({"image": {"tag": "latest"}}, "/image/tag"),
    ({"image": {"digest": "sha256:short"}}, "/image/digest"),
    ({"secrets": {"databaseUrl": {"name": ""}}}, "/secrets/databaseUrl/name"),
    ({"secrets": {"databaseUrl": "postgresql://me:word@host/db"}}, "/secrets/databaseUrl.*got string, want object"),
    ({"settings": {"WINDLASS_SCHEDULER_PLACEMENTS": "spread"}}, "WINDLASS_SCHEDULER_PLACEMENTS"),
    ({"settings": {"WINDLASS_DATABASE_URL": "postgresql://me:word@host/db"}}, "WINDLASS_DATABASE_URL"),
    ({"settings": {"WINDLASS_SCHEDULER_NODE_LOST_S": 30}}, "NODE_LOST_S.*got number, want string"),
    ({"worker": {"onExit": "panic"}}, "/worker/onExit"),
    ({"worker": {"autoscaling": {"kind": "vpa"}}}, "/worker/autoscaling/kind"),
    ({"jobs": {"quota": {"cpu": "many"}}}, "/jobs/quota/cpu"),
    ({"networkPolicy": {"database": {"ports": ["5432"]}}}, "/networkPolicy/database/ports/0"),
    ({"ingress": {"enabled": True}}, "/ingress/host"),
    ({"jobs": {"namespace": "windlass"}}, "where Windlass itself runs.*Name another, such as windlass-jobs"),
    ({"worker": {"replicas": 2}}, "one worker serves a namespace with a quota.*jobs.quota.enabled to false"),
    ({"worker": {"autoscaling": {"kind": "hpa"}}}, "one worker serves a namespace with a quota"),
    (NO_QUOTA, "set both, such as 16 and 64Gi"),
    ({"worker": {"autoscaling": {"min": 5, "max": 2}}}, "min is above worker.autoscaling.max"),
]


@pytest.mark.parametrize(("values", "says"), WRONG, ids=lambda one: str(one)[:60])
def test_bad_values_are_refused_by_name(values: Values, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        rendered(values)
    assert re.search(says, str(refusal.value), re.S), refusal.value


def test_what_the_chart_sets_itself_is_a_setting() -> None:
    assert set(variables()) >= ELSEWHERE


def test_a_change_of_settings_makes_new_pods() -> None:
    def sums(values: Values) -> set[str]:
        text = "".join(rendered(values).values())
        return set(re.findall(r"checksum/settings: (\w+)", text))

    (before,), (after,) = sums({}), sums({"settings": {"WINDLASS_LOG_LEVEL": "debug"}})
    assert before != after


def test_another_release_shares_no_name_with_this_one() -> None:
    def keys(name: str) -> set[tuple[str, str, str]]:
        things = charted("restricted, nothing kept", name, "windlass")
        return {(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in things}

    assert not keys("windlass") & keys("other")
    assert {pod["name"] for pod in pods(charted("defaults", "other", "apart"))} == {
        f"other-windlass-{role}" for role in ("api", "scheduler", "worker", "test")
    }


def test_its_defaults_are_the_base() -> None:
    """Object for object, save the labels that are Helm's own, and what only one of them has."""
    ours = {_key(one): _bare(one) for one in charted("defaults") if _key(one) not in _HELMS}
    base = {_key(one): _bare(one) for one in kustomized("base") if _key(one) not in _KUSTOMIZES}
    assert ours == base


def test_autoscaled_workers_have_no_number_of_their_own() -> None:
    for kind, target in (("hpa", "scaleTargetRef"), ("keda", "scaleTargetRef")):
        things = charted(kind)
        (workers,) = of_kind(things, "StatefulSet")
        assert "replicas" not in workers["spec"]
        (scaler,) = of_kind(things, "HorizontalPodAutoscaler", "ScaledObject")
        assert (scaler["spec"][target]["kind"], scaler["spec"][target]["name"]) == ("StatefulSet", "windlass-worker")
    (hpa,) = of_kind(charted("hpa"), "HorizontalPodAutoscaler")
    assert hpa["spec"]["metrics"][0]["external"]["metric"]["name"] == "windlass_scaling_needed_workers"
    (keda,) = of_kind(charted("keda"), "ScaledObject")
    assert keda["spec"]["triggers"][0]["metadata"]["url"] == "http://windlass-api.windlass.svc:8000/v1/scaling"


def test_notes_name_the_secrets() -> None:
    notes = rendered(VARIANTS["everything"])["NOTES.txt"]
    assert "from-elsewhere, windlass" in notes
    assert "helm -n windlass test windlass" in notes


_HELMS = {("Pod", "windlass-test")}
_KUSTOMIZES = {("Namespace", "windlass")}


def _key(thing: dict[str, Any]) -> tuple[str, str]:
    name = re.sub(r"^windlass-\w{10}$", "windlass", thing["metadata"]["name"]) if thing["kind"] == "ConfigMap" else ""
    return thing["kind"], name or thing["metadata"]["name"]


def _bare(part: Any) -> Any:
    """Without Helm's labels and checksum, and with the plain name of the settings."""
    if isinstance(part, list):
        return [_bare(one) for one in part]
    if not isinstance(part, dict):
        return part
    gone = {"helm.sh/chart", "app.kubernetes.io/managed-by", "checksum/settings"}
    kept = {key: _bare(value) for key, value in part.items() if key not in gone}
    if "name" in kept and isinstance(kept["name"], str):
        kept["name"] = re.sub(r"^windlass-(?=[a-z0-9]*\d)[a-z0-9]{10}$", "windlass", kept["name"])
    if kept.get("kind") == "ConfigMap":
        kept["metadata"].pop("labels", None)
    return {key: value for key, value in kept.items() if value != {} or key not in ("annotations", "labels")}
