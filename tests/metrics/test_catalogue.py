"""The rules every metric keeps, and what a step that was written counts for."""

import importlib
import pkgutil
import re
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

import windlass.metrics
from tests.builders import T0, a_task, moved, placed
from windlass.core.events import CancelRequested, Exited, NodeLost, Refused, Started
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.core.task import Step
from windlass.metrics.catalogue import CATALOGUE, ROLES

for _module in pkgutil.iter_modules(windlass.metrics.__path__):
    importlib.import_module(f"windlass.metrics.{_module.name}")

from windlass.metrics import scheduler  # noqa: E402

UNITS = ("_seconds", "_bytes", "_cores", "_info", "_total")
#: What is counted in things, or is a number of its own.
BARE = re.compile(
    r"_(degraded|leader|term|up|full|exchange|available|attempts|nodes|depth|rows|entries|size|used|listeners|workers"
    r"|ends)$"
)


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_and_labels_keep_the_rules(name: str):
    entry = CATALOGUE[name]
    assert name.startswith("windlass_")
    assert (entry.kind == "counter") == name.endswith("_total")
    assert name.endswith(UNITS) or BARE.search(name), name
    assert not {"job", "instance", "job_id", "le", "quantile", "image", "user"} & set(entry.labels)
    assert entry.words.endswith(".")
    assert set(entry.roles) <= set(ROLES)
    for label, values in entry.labels.items():
        assert isinstance(values, str) or 0 < len(values) <= 20, (label, values)


def test_label_values_are_those_of_the_catalogue():
    for family in REGISTRY.collect():
        for sample in family.samples:
            entry = CATALOGUE.get(family.name) or CATALOGUE.get(f"{family.name}_total")
            assert entry or family.name.startswith("process_"), family.name
            for label, value in sample.labels.items():
                values = entry.labels.get(label) if entry else None
                assert label == "le" or isinstance(values, str) or value in (values or ()), (sample, values)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def grown(act: Callable[[], None], name: str, **labels: str) -> float:
    before = value(name, **labels)
    act()
    return value(name, **labels) - before


def written(*events: object, **task: object) -> list[Step]:
    """A placement and what followed, as the steps that were written."""
    steps = [placed(a_task(**task), now=T0 + 2)]  # pyright: ignore
    for event in events:
        steps.append(moved(steps[-1], event, T0 + 10))  # pyright: ignore
    return steps


def count(steps: list[Step]) -> None:
    for one in steps:
        scheduler.count(one)


OUTCOMES = [
    ((Exited(T0 + 9),), "succeeded", "none"),
    ((Exited(T0 + 9, Cause.OOM),), "failed", "oom"),
    ((NodeLost(),), "lost", "node_lost"),
    ((Refused("full"),), "rejected", "rejected"),
    ((CancelRequested(), Exited(T0 + 9, Cause.CANCELLED)), "cancelled", "cancelled"),
]


@pytest.mark.parametrize(("events", "outcome", "cause"), OUTCOMES)
def test_each_attempt_counts_once_by_outcome_and_cause(events: tuple[object, ...], outcome: str, cause: str):
    labels = {"outcome": outcome, "cause": cause}
    assert grown(lambda: count(written(*events)), "windlass_attempts_total", **labels) == 1


def test_waits_and_runs_are_measured_by_the_databases_clock():
    steps = written(Started(T0 + 5), Exited(T0 + 9))
    assert grown(lambda: count(steps), "windlass_queue_wait_seconds_sum") == 2
    assert grown(lambda: count(steps), "windlass_submit_to_start_seconds_sum") == 5
    assert grown(lambda: count(steps), "windlass_start_to_finish_seconds_sum") == 4
    assert grown(lambda: count(steps), "windlass_jobs_finished_total", state="succeeded") == 1


def test_an_end_that_tells_of_its_start_counts_for_both():
    steps = written(Exited(T0 + 9, None, 0, "", T0 + 5))
    assert grown(lambda: count(steps), "windlass_submit_to_start_seconds_sum") == 5
    assert grown(lambda: count(steps), "windlass_start_to_finish_seconds_count") == 1


def test_only_the_first_start_counts_for_the_submit():
    steps = written(Started(T0 + 5), attempts=1, state=TaskState.QUEUED)
    assert steps[0].attempt is not None
    assert steps[0].attempt.number == 2
    assert grown(lambda: count(steps), "windlass_submit_to_start_seconds_count") == 0


def test_every_end_has_its_series_before_it_happens():
    pairs = {(s, c or "none") for s, c in scheduler._attempts}
    assert {c for _, c in pairs} == {c.value for c in Cause} | {"none"}
    assert {s for s, _ in pairs} == {s for s in AttemptState if s.terminal}
