"""The kinds of job people run: what is submitted, and what its output must have in it."""

from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"


def jobs_of(base: str, delivery: str) -> dict[str, dict[str, Any]]:
    """One of each, with an image that has Python, and that of examples/delivery."""
    folder = {"source": str(EXAMPLES / "weather"), "target": "/weather", "read_only": True}
    return {
        "a Python script from an image": {"image": delivery, "command": ["python3", "plan_round.py", "stops.csv"]},
        "a shell command": {"image": base, "command": ["sh", "-c", "echo from a shell"]},
        "data processing": {"image": base, "command": ["python3", "report.py", "weather.csv"], "workdir": "/weather",
                            "env": {"PYTHONIOENCODING": "utf-8"}, "volumes": [folder]},
        "a custom application": {"image": delivery, "args": ["stops.csv", "7"]},
        "chained commands": {"image": base, "workdir": "/tmp", "command":
                             ["sh", "-c", "seq 1 9 > n && grep -c 7 n && echo the chain is done"]},
    }  # fmt: skip


SAID = {
    "a Python script from an image": "km",
    "a shell command": "from a shell",
    "data processing": "warmest",
    "a custom application": "km",
    "chained commands": "the chain is done",
}
