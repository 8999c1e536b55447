"""Write what deploy/kubernetes has in common with the chart of deploy/helm: `python -m scripts.manifests`.

The chart is the source. With its default values it makes the base; with its switches for the Prometheus operator, the
component `monitoring`. Helm's own labels go, and so does the checksum that Kustomize has a name of its own for. The
chart's schema gets the names of the settings from the code, and what has a version the project's.
"""

import json
import re
import sys
from pathlib import Path

import yaml
from scripts.chart import CHART, ROOT, helm_missing, rendered

from windlass import __version__
from windlass.sources import variables

KUSTOMIZE = ROOT / "deploy/kubernetes"
BASE = ("accounts.yaml", "api.yaml", "jobs.yaml", "network.yaml", "scheduler.yaml", "worker.yaml")
MONITORING = ("prometheusrule.yaml", "servicemonitor.yaml")
VERSIONED = (
    CHART / "Chart.yaml",
    *(KUSTOMIZE / f"overlays/{name}/kustomization.yaml" for name in ("small", "production")),
)
SCHEMA = CHART / "values.schema.json"
#: Settings with values of their own in the chart: secrets, and what else must agree with it.
_ELSEWHERE = """
DATABASE_URL DATABASE_CA_FILE REDIS_URL REDIS_CA_FILE METRICS_HOST METRICS_PORT
API_HOST API_PORT API_URL API_ADMIN_TOKEN_FILE API_JOIN_TOKEN_FILE API_TLS_CERT_FILE API_TLS_KEY_FILE API_CA_FILE
WORKER_NAME WORKER_DATA WORKER_SHARED_DATA WORKER_CPU WORKER_MEMORY WORKER_PROFILE WORKER_ON_EXIT
WORKER_DRAIN_DEADLINE_S WORKER_JOIN WORKER_JOIN_FILE WORKER_DRIVERS WORKER_ALLOW_PROCESS WORKER_VOLUMES_ALLOWED
WORKER_DOCKER_URL WORKER_KUBERNETES_NAMESPACE
"""
ELSEWHERE = frozenset(f"WINDLASS_{name}" for name in _ELSEWHERE.split())
_HEAD = "# Made from deploy/helm/windlass by `make docs`.\n"
_HELMS = re.compile(
    r"^ +annotations:\n +checksum/settings: .*\n|^ +(?:helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n",
    re.MULTILINE,
)


def made() -> dict[Path, str]:
    """Every file and what it holds."""
    base = rendered()
    on = rendered({"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}})
    files = {KUSTOMIZE / "base" / name: _plain(base[name]) for name in BASE}
    files |= {KUSTOMIZE / "components/monitoring" / name: _plain(on[name]) for name in MONITORING}
    settings = yaml.safe_load(base["settings.yaml"])["data"]
    lines = "".join(f"{name}={value}\n" for name, value in settings.items())
    return files | {KUSTOMIZE / "base/settings.env": _HEAD + lines, SCHEMA: _schema()}


def versioned() -> dict[Path, str]:
    """The files with a version in them, as they should be. A chart's own is Semantic Versioning's: 0.3.0-dev.0."""
    chart = re.sub(r"\.?(dev|rc|a|b)(\d+)$", r"-\1.\2", __version__)
    found = {path: path.read_text() for path in VERSIONED}
    for pattern, version in {"version": chart, "appVersion": __version__, "    newTag": __version__}.items():
        found = {
            path: re.sub(rf"^{pattern}: \S+$", f"{pattern}: {version}", text, flags=re.MULTILINE)
            for path, text in found.items()
        }
    return found


def _plain(text: str) -> str:
    return _HEAD + _HELMS.sub("", text).strip("\n").removeprefix("---\n") + "\n"


def _schema() -> str:
    whole = json.loads(SCHEMA.read_text())
    whole["$defs"]["setting"]["enum"] = sorted(set(variables()) - ELSEWHERE)
    return json.dumps(whole, indent=1) + "\n"


if __name__ == "__main__":
    if why := helm_missing():
        sys.exit(why)
    for path, text in versioned().items():
        path.write_text(text)
    for path, text in made().items():
        path.write_text(text)
