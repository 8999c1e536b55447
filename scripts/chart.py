"""The chart of deploy/helm, rendered by Helm itself: its Go SDK, which comes as the wheel `helm-python-sdk`.

Go brings a runtime with signal handlers of its own, so Helm works in a process for itself.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/helm/windlass"

Values = dict[str, Any]


class Refused(Exception):
    """What Helm says against the chart or its values."""


def helm_missing() -> str:
    """Why Helm can't be had on this machine; "" when it can."""
    return "" if find_spec("helm_python") else "no Helm: helm-python-sdk has wheels for Linux on x86-64"


def rendered(values: Values | None = None, name: str = "windlass", namespace: str = "windlass") -> dict[str, str]:
    """What each template becomes, by its path in the chart; what comes out empty is left out. Raises Refused."""
    return _helm({"do": "render", "values": values or {}, "name": name, "namespace": namespace})


def linted(values: Values | None = None) -> list[str]:
    """What `helm lint --strict` finds, mere information left out."""
    found = _helm({"do": "lint", "values": values or {}})
    return found["errors"] + [str(one) for one in found["messages"] if one["severity"] > 1]


def packed(folder: Path) -> Path:
    """The chart as `helm package` makes it, in that folder."""
    return Path(_helm({"do": "package", "folder": str(folder)}))


def _helm(request: dict[str, Any]) -> Any:
    order = [sys.executable, "-m", "scripts.chart"]
    done = subprocess.run(order, input=json.dumps(request), cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode == 2:
        raise Refused(done.stdout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _answer(request: dict[str, Any]) -> Any:
    import helm_python as helm

    match request["do"]:
        case "lint":
            return helm.lint(CHART, request["values"], strict=True)
        case "package":
            return helm.package(CHART, destination=request["folder"])
        case _:
            with helm.Chart.load(CHART) as chart:
                chart.validate_schema(request["values"])
                made = chart.render(request["values"], name=request["name"], namespace=request["namespace"])
            paths = {path.removeprefix("windlass/templates/"): text for path, text in made.items()}
            return {path: text for path, text in sorted(paths.items()) if text.strip()}


def _main() -> int:
    import helm_python as helm

    try:
        print(json.dumps(_answer(json.load(sys.stdin))))
    except helm.HelmError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
