"""Kinds that are no part of Kubernetes, as strictly as we use them.

Their own schemas come with the operators that know them, and are not had here. So these are written by hand, after the
operators' documentation, for the fields our manifests have: a misspelt, misplaced or mistyped one is found; whether the
operator likes the values is not.
"""

from typing import Any

import jsonschema_rs

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_KEYS = ("parameter", "name", "key")
_DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}


def _thing(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


_RULE = {
    "oneOf": [
        _thing({"record": {"type": "string", "pattern": "^[a-zA-Z_:][a-zA-Z0-9_:]*$"}, "expr": _TEXT, "labels": _TEXTS},
               "record", "expr"),
        _thing({"alert": _TEXT, "expr": _TEXT, "for": _DURATION, "labels": _TEXTS, "annotations": _TEXTS},
               "alert", "expr"),
    ]
}  # fmt: skip
_RELABELING = _thing({"sourceLabels": _list(_TEXT), "targetLabel": _TEXT, "replacement": _TEXT}, "targetLabel")
SPECS: dict[tuple[str, str], dict[str, Any]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _thing(
        {
            "selector": _thing({"matchLabels": _TEXTS}, "matchLabels"),
            "endpoints": _list(
                _thing({"port": _TEXT, "interval": _DURATION, "relabelings": _list(_RELABELING)}, "port")
            ),
        },
        "selector", "endpoints",
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _thing(
        {"groups": _list(_thing({"name": _TEXT, "rules": _list(_RULE)}, "name", "rules"))}, "groups"
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): _thing(
        {"secretTargetRef": _list(_thing(dict.fromkeys(_KEYS, _TEXT), *_KEYS))}
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): _thing(
        {
            "scaleTargetRef": _thing({"kind": {"enum": ["StatefulSet"]}, "name": _TEXT}, "name"),
            "minReplicaCount": {"type": "integer", "minimum": 0},
            "maxReplicaCount": {"type": "integer", "minimum": 1},
            "triggers": _list(
                _thing(
                    {
                        "type": {"const": "metrics-api"},
                        "metadata": _thing(
                            {
                                "url": {"type": "string", "pattern": "^https?://"},
                                "valueLocation": _TEXT,
                                "targetValue": {"type": "string", "pattern": "^[0-9.]+$"},
                                "authMode": {"const": "bearer"},
                            },
                            "url", "valueLocation", "targetValue",
                        ),
                        "authenticationRef": _thing({"name": _TEXT}, "name"),
                    },
                    "type", "metadata",
                )
            ),
        },
        "scaleTargetRef", "triggers",
    ),
}  # fmt: skip
_METADATA = _thing({"name": _TEXT, "namespace": _TEXT, "labels": _TEXTS, "annotations": _TEXTS}, "name")


def crd_faults(thing: dict[str, Any]) -> list[str] | None:
    """What is wrong with it; None when it is no kind of these."""
    spec = SPECS.get((thing["apiVersion"], thing["kind"]))
    if spec is None:
        return None
    whole = _thing({"apiVersion": _TEXT, "kind": _TEXT, "metadata": _METADATA, "spec": spec}, "metadata", "spec")
    errors = jsonschema_rs.Draft202012Validator(whole).iter_errors(thing)
    return [f"{thing['kind']} {'.'.join(map(str, error.instance_path))}: {error.message[:300]}" for error in errors]
