"""Documents made from the code: `python -m tests.house.documents` writes them, a test compares them."""

import json
from collections.abc import Callable
from pathlib import Path

from scripts.job_spec_doc import page as job_spec

from tests.house.api_page import api
from tests.house.commands_page import commands
from tests.house.errors_page import errors
from tests.house.events_page import events
from tests.house.metrics_page import metrics
from tests.house.settings_page import settings
from tests.house.states_page import states
from windlass.api.app import make_app
from windlass.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs/reference"


def openapi() -> str:
    """docs/reference/openapi.json."""
    return json.dumps(make_app(Settings()).openapi(), indent=1, ensure_ascii=False) + "\n"


MADE: dict[str, Callable[[], str]] = {
    "api.md": api,
    "commands.md": commands,
    "errors.md": errors,
    "events.md": events,
    "job-spec.md": job_spec,
    "metrics.md": metrics,
    "openapi.json": openapi,
    "settings.md": settings,
    "states.md": states,
}


if __name__ == "__main__":
    for name, make in MADE.items():
        (REFERENCE / name).write_text(make())
