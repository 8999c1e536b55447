"""What an operator would send to Kubernetes: overlays by the real Kustomize, the chart by the real Helm."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from scripts.chart import ROOT, Values, helm_missing, rendered

Thing = dict[str, Any]
KUBECTL = Path(sys.executable).parent / "kubectl"
KUSTOMIZE = ROOT / "deploy/kubernetes"
FOLDERS = ("base", "overlays/small", "overlays/production")
SECRET = {"name": "from-elsewhere", "key": "uri"}
EXTRAS: Values = {
    "podAnnotations": {"a/b": "1"},
    "podLabels": {"team": "batch"},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["system"]}]}]}}},
    "topologySpreadConstraints": [],
    "priorityClassName": "high",
}  # fmt: skip
NO_QUOTA: Values = {"jobs": {"quota": {"enabled": False}}}
#: Values that between them turn every switch of the chart on and off.
VARIANTS: dict[str, Values] = {
    "defaults": {},
    "everything": {
        "image": {"repository": "registry.example.org/windlass", "digest": f"sha256:{'a' * 64}"},
        "imagePullSecrets": [{"name": "registry"}],
        "secrets": {"databaseUrl": SECRET, "databaseCa": SECRET, "redisCa": SECRET, "apiCa": SECRET},
        "settings": {"WINDLASS_SCHEDULER_PLACEMENT": "spread", "WINDLASS_LOG_LEVEL": "debug"},
        "serviceAccount": {"annotations": {"a/b": "1"}},
        "api": EXTRAS | {"tls": {"secretName": "api-tls"}, "service": {"port": 443, "annotations": {"a/b": "1"}}},
        "scheduler": EXTRAS,
        "worker": EXTRAS | {"redisUrlFromSecret": True, "persistence": {"storageClass": "fast"}},
        "networkPolicy": {
            "database": {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [5432, 6432]},
            "extraEgress": [{"ports": [{"protocol": "TCP", "port": 4318}]}],
        },
        "ingress": {"enabled": True, "className": "nginx", "host": "windlass.example.org", "tlsSecretName": "edge",
                    "annotations": {"a/b": "1"}},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}, "runbooks": "https://example.org/w/"},
    },
    "little": {
        "worker": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "ingress": {"enabled": True, "host": "windlass.example.org"},
    },
    "restricted, nothing kept": {
        "worker": {"profile": "restricted", "onExit": "leave", "persistence": {"enabled": False}},
        "jobs": {"createNamespace": False},
        "networkPolicy": {"jobs": False, "jobsExcept": []},
    },
    "hpa": NO_QUOTA | {"worker": {"cpu": "16", "memory": "64Gi", "autoscaling": {"kind": "hpa"}}},
    "keda": NO_QUOTA | {"worker": {"cpu": "16", "memory": "64Gi", "autoscaling": {"kind": "keda"}}},
}  # fmt: skip


def kustomized(folder: str) -> list[Thing]:
    """The objects of a folder of deploy/kubernetes, as `kubectl apply -k` would send them."""
    return json.loads(_kustomized(folder))


@cache
def _kustomized(folder: str) -> str:
    done = subprocess.run(
        [KUBECTL, "kustomize", KUSTOMIZE / folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.dumps(list(yaml.safe_load_all(done.stdout)))


def charted(variant: str, name: str = "windlass", namespace: str = "windlass") -> list[Thing]:
    """The objects of the chart with the values of that name."""
    return json.loads(_charted(variant, name, namespace))


@cache
def _charted(variant: str, name: str, namespace: str) -> str:
    files = rendered(VARIANTS[variant], name, namespace)
    found = [one for path, text in files.items() if path != "NOTES.txt" for one in yaml.safe_load_all(text)]
    return json.dumps([one for one in found if one is not None])


def sources() -> list[tuple[str, str]]:
    """All there is to look at: ("kustomize", folder) and ("helm", variant)."""
    charts = [] if helm_missing() else [("helm", variant) for variant in VARIANTS]
    return [("kustomize", folder) for folder in FOLDERS] + charts


def objects(source: tuple[str, str]) -> list[Thing]:
    """The objects of one of the sources."""
    kind, name = source
    return kustomized(name) if kind == "kustomize" else charted(name)


def of_kind(things: list[Thing], *kinds: str) -> list[Thing]:
    """Those of these kinds."""
    return [one for one in things if one["kind"] in kinds]


def named(things: list[Thing], kind: str, name: str) -> Thing:
    """The only one of that kind and name."""
    (found,) = [one for one in of_kind(things, kind) if one["metadata"]["name"] == name]
    return found


def pods(things: list[Thing]) -> Iterator[Thing]:
    """Every Pod these objects make, with the name of what makes it: metadata and spec."""
    for one in of_kind(things, "Deployment", "StatefulSet"):
        yield {"name": one["metadata"]["name"], "metadata": one["metadata"] | one["spec"]["template"]["metadata"],
               "spec": one["spec"]["template"]["spec"]}  # fmt: skip
    for one in of_kind(things, "Pod"):
        yield {"name": one["metadata"]["name"], "metadata": one["metadata"], "spec": one["spec"]}


def the_pod(things: list[Thing], name: str) -> Thing:
    """The Pod that the object of this name makes."""
    (found,) = [pod for pod in pods(things) if pod["name"] == name]
    return found


def containers(pod: Thing) -> list[Thing]:
    """All of a Pod's containers, in the order they run."""
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def environment(container: Thing, things: list[Thing]) -> dict[str, str]:
    """The variables it has, as Kubernetes puts them together."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= named(things, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {one["name"]: one["value"] for one in container.get("env", [])}


def files_of(pod: Thing, container: Thing) -> dict[str, tuple[str, str]]:
    """The files that come from Secrets, by path: (Secret, key). One mounted whole: its folder and "*"."""
    found: dict[str, tuple[str, str]] = {}
    volumes = {one["name"]: one for one in pod["spec"].get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        for source in volume.get("projected", {}).get("sources", []):
            for item in source["secret"]["items"]:
                found[f"{mount['mountPath']}/{item['path']}"] = (source["secret"]["name"], item["key"])
        if "secret" in volume:
            found[mount["mountPath"]] = (volume["secret"]["secretName"], "*")
    return found


def matches(selector: Thing, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", []):
        has = labels.get(one["key"])
        match one["operator"]:
            case "In":
                good = has in one["values"]
            case "Exists":
                good = has is not None
            case other:
                raise AssertionError(f"no such operator is used here: {other}")
        if not good:
            return False
    return True
