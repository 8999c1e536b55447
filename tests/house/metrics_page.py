"""docs/reference/metrics.md, made from the catalogue of metrics."""

import importlib
import pkgutil

import windlass.metrics
from windlass.metrics.catalogue import CATALOGUE, ROLES, Entry

for _module in pkgutil.iter_modules(windlass.metrics.__path__):
    importlib.import_module(f"windlass.metrics.{_module.name}")

_HEAD = """\
# Metrics

Made from the code by `make docs`; a test keeps it current.

Every role serves `/metrics` on `metrics.port`, where that is [set](settings.md), in a thread of its own; the API does
on its own port, too. `windlass up` gives the first scheduler the port that is set and counts on from there, schedulers
first, then workers; its API has the page on its own port alone.

Units are base units: seconds, bytes, cores. A label's values are a closed set, or one per node; where all of them are
known, their series are there from the start, so that a rate is 0 and not absent. What is told of the whole cluster,
the leader tells, and only while it leads and has a `metrics.port`; so no two processes tell it twice, and after a
takeover another instance goes on. Of a histogram there are also `_bucket`, `_sum` and `_count`, of a summary the
latter two.

A line of tasks is counted beside the leader's work, never by a scrape, and less often the deeper it is: counting takes
at most 1 % of the time. `windlass_queue_count_age_seconds` says how old the figure is. The oldest wait is that of the
first of each shape and priority: one step in an index each, however long the lines are.

Rules, alerts and dashboards that read these are in `deploy/prometheus` and `deploy/grafana`; each alert has a
[runbook page](../runbooks/README.md).
"""
_TITLES = {
    ROLES: "Every role",
    ("api", "scheduler"): "API and schedulers",
    ("api",): "API",
    ("scheduler",): "Schedulers",
    ("worker",): "Workers",
}
_PROCESS = """\
## Every process

From the Prometheus client itself: `process_cpu_seconds_total`, `process_resident_memory_bytes`,
`process_virtual_memory_bytes`, `process_start_time_seconds`, `process_open_fds`, `process_max_fds`.
"""


def _labels(entry: Entry) -> str:
    told = (
        f"`{n}`: {v if isinstance(v, str) else ', '.join(f'`{one}`' for one in v)}" for n, v in entry.labels.items()
    )
    return "; ".join(told)


def _section(roles: tuple[str, ...], entries: list[Entry]) -> str:
    rows = [f"| `{e.name}` | {e.kind} | {e.words} | {_labels(e)} |" for e in entries]
    return "\n".join([f"## {_TITLES[roles]}", "", "| metric | kind | | labels |", "|---|---|---|---|", *rows, ""])


def metrics() -> str:
    """docs/reference/metrics.md."""
    parts = [_HEAD]
    for roles in _TITLES:
        parts.append(_section(roles, sorted(e for e in CATALOGUE.values() if tuple(e.roles) == tuple(roles))))
    assert {tuple(e.roles) for e in CATALOGUE.values()} <= {tuple(roles) for roles in _TITLES}
    return "\n".join([*parts, _PROCESS])
