"""Kubernetes' own OpenAPI schemas of two minor versions, to hold objects against: unknown fields are faults too."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

VERSIONS = ("1.36", "1.37")
_FOLDER = Path(__file__).parent / "schemas"
_GROUPS = {
    "v1": "api.core.v1",
    "apps/v1": "api.apps.v1",
    "autoscaling/v2": "api.autoscaling.v2",
    "batch/v1": "api.batch.v1",
    "networking.k8s.io/v1": "api.networking.v1",
    "policy/v1": "api.policy.v1",
    "rbac.authorization.k8s.io/v1": "api.rbac.v1",
}
_META = ("Status", "DeleteOptions")


@cache
def _definitions(version: str) -> dict[str, Any]:
    return json.loads((_FOLDER / f"{version}.json").read_text())["$defs"]


@cache
def _validator(version: str, name: str) -> jsonschema_rs.Draft202012Validator:
    definitions = _definitions(version)
    assert name in definitions, f"Kubernetes {version} has no {name}, or scripts/kubernetes_schemas.py leaves it out"
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": definitions})


def faults(thing: dict[str, Any], version: str) -> list[str]:
    """What that version of Kubernetes would not take in this object."""
    kind, group = thing["kind"], _GROUPS[thing["apiVersion"]]
    package = "apimachinery.pkg.apis.meta.v1" if kind in _META else group
    errors = _validator(version, f"io.k8s.{package}.{kind}").iter_errors(thing)
    return [f"{kind} {'.'.join(map(str, error.instance_path))}: {error.message[:300]}" for error in errors]


def all_faults(thing: dict[str, Any]) -> list[str]:
    """The same for every version."""
    return [f"{version}: {fault}" for version in VERSIONS for fault in faults(thing, version)]
