"""deploy/kubernetes and deploy/helm: every object is one that Kubernetes takes, and each says what Windlass means."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scripts.chart import ROOT
from scripts.manifests import versioned

from tests.kubernetes.crds import crd_faults
from tests.kubernetes.manifests import (
    KUSTOMIZE,
    VARIANTS,
    Thing,
    containers,
    environment,
    files_of,
    matches,
    objects,
    of_kind,
    pods,
    sources,
)
from tests.kubernetes.schemas import all_faults
from tests.kubernetes.test_worker import the_role
from tests.prometheus import rules
from windlass import __version__
from windlass.api.app import make_app
from windlass.core.fields import FIELDS
from windlass.settings import Settings
from windlass.sources import load, variables
from windlass.worker.farewell import CONFIRMED_S, GONE_S, RELEASED_S

ALL = pytest.mark.parametrize("source", sources(), ids="-".join)
#: Seconds a job may ask for between the signal and the kill, when it says nothing.
STOP_GRACE_S = 10
IMAGES = re.compile(r"[a-z0-9./-]+(:(?!latest)[\w.-]+|@sha256:[0-9a-f]{64})")


def place(thing: Thing) -> str:
    return f"{thing['kind']} {thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def plain(environ: dict[str, str]) -> dict[str, str]:
    """Without those that name a file."""
    return {name: value for name, value in environ.items() if not name.endswith("_FILE")}


@ALL
def test_every_object_is_what_kubernetes_takes(source: tuple[str, str]) -> None:
    found = objects(source)
    faults = {place(one): all_faults(one) if (own := crd_faults(one)) is None else own for one in found}
    assert len(faults) == len(found), "two objects have one name"
    assert not [fault for some in faults.values() for fault in some]


def test_the_checks_see_what_is_wrong() -> None:
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "a"},
               "spec": {"selector": {"matchLabels": {}}, "endpoints": [{"prot": "metrics"}]}}  # fmt: skip
    assert crd_faults(monitor)
    (deployment,) = [one for one in objects(("kustomize", "base")) if place(one) == "Deployment windlass/windlass-api"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    assert len(all_faults(deployment)) == 2


@pytest.mark.parametrize("source", [one for one in sources() if one[0] == "kustomize"], ids="-".join)
def test_a_namespace_comes_before_what_is_in_it(source: tuple[str, str]) -> None:
    """`kubectl apply` goes by the order of what it is given; Helm has an order of its own."""
    there = set[str]()
    for one in objects(source):
        if one["kind"] == "Namespace":
            there.add(one["metadata"]["name"])
        else:
            assert one["metadata"]["namespace"] in there, place(one)


@ALL
def test_every_container_is_confined(source: tuple[str, str]) -> None:
    for pod in pods(objects(source)):
        whole = pod["spec"]["securityContext"]
        assert whole["runAsNonRoot"] is True
        assert whole["runAsUser"] > 0
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
        assert not any("hostPath" in volume for volume in pod["spec"]["volumes"])
        assert pod["spec"]["automountServiceAccountToken"] is (pod["name"] == "windlass-worker")
        for one in containers(pod):
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod["name"]
            assert IMAGES.fullmatch(one["image"]), one["image"]
            assert one["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in one["resources"]["limits"]


@ALL
def test_no_service_sets_a_setting(source: tuple[str, str]) -> None:
    """Kubernetes would tell Pods of a Service windlass-api by WINDLASS_API_PORT=tcp://..., a setting's name."""
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in pods(objects(source)))


def test_that_would_be_one() -> None:
    with pytest.raises(Exception, match="WINDLASS_API_PORT"):
        load(environ={"WINDLASS_API_PORT": "tcp://10.0.0.1:8000"})


@ALL
def test_every_role_takes_its_settings(source: tuple[str, str], tmp_path: Path) -> None:
    """The variables are read as the role would, with some secret in every file that is mounted."""
    found = objects(source)
    for pod in pods(found):
        for one in containers(pod):
            if "windlass" not in one["image"] or one["args"][0] == "run":
                continue
            environ, files = environment(one, found), files_of(pod, one)
            assert not environ.keys() & {"WINDLASS_DATABASE_URL", "WINDLASS_REDIS_URL", "WINDLASS_TOKEN"}
            for name, value in environ.items():
                if value.startswith("/run/windlass"):
                    assert value in files or str(Path(value).parent) in files, (pod["name"], name)
                if name in ("WINDLASS_DATABASE_URL_FILE", "WINDLASS_REDIS_URL_FILE"):
                    environ[name] = str(tmp_path / name)
                    scheme = "redis" if "REDIS" in name else "postgresql"
                    (tmp_path / name).write_text(f"{scheme}://user:word@host:1/0\n")
            load(environ=environ)


@ALL
def test_a_worker_never_sees_the_database(source: tuple[str, str]) -> None:
    for pod in pods(objects(source)):
        if pod["name"] == "windlass-worker":
            (one,) = containers(pod)
            assert not [path for path in files_of(pod, one) if "database" in path or "admin" in path]


@ALL
def test_a_worker_has_the_time_to_drain(source: tuple[str, str]) -> None:
    found = objects(source)
    for pod in pods(found):
        if pod["name"] == "windlass-worker":
            (one,) = containers(pod)
            settings = load(environ=plain(environment(one, found))).worker
            needed = settings.drain_deadline_s + STOP_GRACE_S + RELEASED_S + GONE_S + CONFIRMED_S
            assert pod["spec"]["terminationGracePeriodSeconds"] >= needed
            assert "kill -TERM 1" in one["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_that_is_the_grace_of_a_job_that_asks_for_none() -> None:
    assert FIELDS["stop_grace"].schema["default"] == STOP_GRACE_S


@ALL
def test_every_probe_asks_a_page_that_is_there(source: tuple[str, str]) -> None:
    routes, found = make_app(Settings()).openapi()["paths"], objects(source)
    for pod in pods(found):
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] != "windlass" or pod["name"] == "windlass-test":
            continue
        (one,) = pod["spec"]["containers"]
        settings = load(environ=plain(environment(one, found)))
        ports = {port["name"]: port["containerPort"] for port in one["ports"]}
        assert ports["metrics"] == settings.metrics.port
        assert settings.metrics.host == "0.0.0.0"
        asked = {kind: one[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        if one["name"] == "api":
            assert ports["http"] == settings.api.port
            assert {kind: get["path"] for kind, get in asked.items()} == {
                "startup": "/livez", "readiness": "/readyz", "liveness": "/livez",
            }  # fmt: skip
            assert {get["port"] for get in asked.values()} == {"http"}
            assert all(get["path"] in routes for get in asked.values())
            tls = "WINDLASS_API_TLS_CERT_FILE" in environment(one, found)
            assert {get["scheme"] for get in asked.values()} == {"HTTPS" if tls else "HTTP"}
            assert settings.api.url.startswith("https://" if tls else "http://")
        else:
            assert all((get["path"], get["port"]) == ("/metrics", "metrics") for get in asked.values())


@ALL
def test_every_selector_finds_its_pods_and_no_others(source: tuple[str, str]) -> None:
    found = objects(source)
    made = {pod["name"]: pod["metadata"]["labels"] for pod in pods(found)}

    def chosen(selector: Thing) -> set[str]:
        return {name for name, labels in made.items() if matches(selector, labels)}

    for one in of_kind(found, "Deployment", "StatefulSet"):
        assert chosen(one["spec"]["selector"]) == {one["metadata"]["name"]}
    for one in of_kind(found, "Service"):
        (target,) = chosen({"matchLabels": one["spec"]["selector"]})
        assert one["metadata"]["name"].startswith(target)
        (pod,) = [pod for pod in pods(found) if pod["name"] == target]
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
    for one in of_kind(found, "PodDisruptionBudget"):
        assert chosen(one["spec"]["selector"]) == {one["metadata"]["name"]}
        assert one["spec"]["maxUnavailable"] == 1
    for one in of_kind(found, "StatefulSet"):
        assert one["spec"]["serviceName"] in {service["metadata"]["name"] for service in of_kind(found, "Service")}
    accounts = {one["metadata"]["name"] for one in of_kind(found, "ServiceAccount")}
    assert {pod["spec"]["serviceAccountName"] for pod in pods(found) if "serviceAccountName" in pod["spec"]} <= accounts


@ALL
def test_every_role_of_windlass_has_a_budget(source: tuple[str, str]) -> None:
    found = objects(source)
    roles = {one["metadata"]["name"] for one in of_kind(found, "Deployment", "StatefulSet")} - {"postgres", "redis"}
    off = source == ("helm", "little")
    assert {one["metadata"]["name"] for one in of_kind(found, "PodDisruptionBudget")} == (set() if off else roles)


@ALL
def test_the_worker_may_do_in_the_jobs_namespace_what_it_does_and_nothing_elsewhere(source: tuple[str, str]) -> None:
    found = objects(source)
    rights = {
        (verb, what)
        for role in of_kind(found, "Role")
        for rule in role["rules"]
        for what in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {one["metadata"]["namespace"] for one in of_kind(found, "Role", "RoleBinding")} <= {"windlass-jobs"}
    assert not of_kind(found, "ClusterRole", "ClusterRoleBinding")
    if source != ("helm", "little"):
        assert rights == the_role()
        (binding,) = of_kind(found, "RoleBinding")
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "windlass-worker", "namespace": "windlass"}]
        (pod,) = [pod for pod in pods(found) if pod["name"] == "windlass-worker"]
        assert pod["spec"]["serviceAccountName"] == "windlass-worker"
        (one,) = containers(pod)
        assert environment(one, found)["WINDLASS_WORKER_KUBERNETES_NAMESPACE"] == "windlass-jobs"


@ALL
def test_the_rules_are_those_of_prometheus(source: tuple[str, str]) -> None:
    for one in of_kind(objects(source), "PrometheusRule"):
        said = [rule for group in one["spec"]["groups"] for rule in group["rules"]]
        for rule in said:
            notes = rule.get("annotations", {})
            if "runbook_url" in notes:
                before = "https://example.org/w/" if source[0] == "helm" else ""
                assert notes["runbook_url"].startswith(f"{before}docs/runbooks/")
                notes["runbook_url"] = notes["runbook_url"].removeprefix(before)
        assert said == rules("alerts") + rules("recording")


def test_scrape_jobs_are_called_as_rules_expect() -> None:
    found = objects(("kustomize", "overlays/production"))
    (monitor,) = of_kind(found, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    (relabeling,) = endpoint["relabelings"]
    assert relabeling["sourceLabels"] == ["__meta_kubernetes_service_label_app_kubernetes_io_component"]
    scraped = [one for one in of_kind(found, "Service")
               if matches(monitor["spec"]["selector"], one["metadata"]["labels"])
               and endpoint["port"] in {port["name"] for port in one["spec"]["ports"]}]  # fmt: skip
    names = {relabeling["replacement"].replace("$1", one["metadata"]["labels"]["app.kubernetes.io/component"])
             for one in scraped}  # fmt: skip
    wanted = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert names == {job["job_name"] for job in wanted} - {"prometheus"}


def test_the_trial_has_every_secret_it_mounts(tmp_path: Path) -> None:
    made = the_secrets()
    assert not [fault for one in made for fault in all_faults(one)]
    has = {one["metadata"]["name"]: one["stringData"] for one in made}
    mounted = [file for pod in pods(objects(("kustomize", "overlays/small"))) for one in containers(pod)
               for file in files_of(pod, one).values()]  # fmt: skip
    assert mounted
    for name, key in mounted:
        assert key == "*" or key in has[name], (name, key)
    again = {one["metadata"]["name"]: one["stringData"] for one in the_secrets()}
    assert not {value for some in has.values() for value in some.values()} & set(again["windlass"].values())


def the_secrets() -> list[Thing]:
    """What secrets.sh prints, of the windlass in this virtual environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run([KUSTOMIZE / "overlays/small/secrets.sh"], env=os.environ | {"PATH": path},
                          capture_output=True, text=True, timeout=30, check=True)  # fmt: skip
    return list(yaml.safe_load_all(done.stdout))


def test_versions_are_the_projects() -> None:
    for path, text in versioned().items():
        assert path.read_text() == text, f"{path.name}: run `make docs`, look at the difference, commit it"
    chart = yaml.safe_load((ROOT / "deploy/helm/windlass/Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    for folder in ("base", "overlays/small", "overlays/production"):
        images = [one["image"] for pod in pods(objects(("kustomize", folder))) for one in containers(pod)]
        assert {image.rpartition(":")[2] for image in images if "windlass" in image} == {__version__}


def test_every_setting_that_is_text_somewhere_is_one() -> None:
    for values in VARIANTS.values():
        assert set(values.get("settings", {})) <= set(variables())
