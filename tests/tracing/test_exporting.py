"""Tracing off costs nothing; on, nobody waits for a collector."""

import logging
import math
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import windlass
from tests.support import HANG_S
from tests.tracing.collector import Collector
from windlass import telemetry, tracing
from windlass.core.trace import TraceContext
from windlass.errors import SettingsError
from windlass.settings import Tracing
from windlass.tracing import Span

PARENT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1, "rojo=1")
NAMES = [name for name in os.environ if name.startswith("OTEL_")]


@pytest.fixture(autouse=True)
def off_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in NAMES:
        monkeypatch.delenv(name)
    quiet = logging.getLogger("opentelemetry").level
    yield
    tracing.close()
    for thread in threading.enumerate():  # it gives up on a collector that is away behind our back, and says so
        if "Otel" in thread.name or "shutdown" in thread.name:
            thread.join(HANG_S)
    logging.getLogger("opentelemetry").setLevel(quiet)


def kept(spans: Sequence[Span]) -> int:
    return sum(span.context is not None and span.context.sampled for span in spans)


def test_what_an_install_and_the_image_bring_has_it() -> None:
    root = Path(__file__).parents[2]
    extra = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["otel"]
    locked = re.findall(r"^([\w-]+)==", (root / "requirements-image.lock").read_text(), re.MULTILINE)
    assert {re.split(r"[<>=]", name)[0] for name in extra} <= set(locked)


def test_off_nothing_of_it_is_loaded() -> None:
    roles = "import windlass.api.app, windlass.scheduler.leader, windlass.worker.serve, windlass.driver.docker, sys"
    look = "print([name for name in ('windlass.exporting', 'opentelemetry.sdk.trace') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{roles}\n{look}"], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_off_what_was_sent_is_passed_on() -> None:
    span = tracing.begin("attempt", PARENT, kind="consumer", span_id="1" * 16)
    with span.child("run"), tracing.step("pull"):
        span.end("failed")
    assert span.context == PARENT
    assert tracing.below(PARENT, "1" * 16) == PARENT


@pytest.mark.parametrize(
    ("asked", "variables", "on"),
    [
        ("none", {"OTEL_TRACES_EXPORTER": "otlp"}, False),
        ("auto", {}, False),
        ("auto", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ("auto", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/x"}, True),
        ("auto", {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ("auto", {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ("otlp", {}, True),
        ("otlp", {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_who_says_whether_it_is_on(
    monkeypatch: pytest.MonkeyPatch, asked: str, variables: dict[str, str], on: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    telemetry.export_spans(Tracing(asked), "api", "c")  # pyright: ignore
    assert tracing.on() is on


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "windlass.exporting", None)
    monkeypatch.delattr(windlass, "exporting", raising=False)
    with pytest.raises(SettingsError, match=r"pip install '\.\[otel\]'"):
        telemetry.export_spans(Tracing("otlp"), "api", "c")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    with capture_logs() as lines:
        telemetry.export_spans(Tracing(), "api", "c")
    assert [line["event"] for line in lines] == ["tracing_off"]
    assert not tracing.on()


def test_a_share_of_the_traces_is_kept(collector: Collector) -> None:
    collector.spans.clear()
    telemetry.export_spans(Tracing("otlp", collector.url, 0.0), "api", "c")
    mine = tracing.begin("POST", None, kind="server")
    theirs = tracing.begin("POST", PARENT, kind="server")
    assert mine.context is None
    assert theirs.context is not None
    assert theirs.context.sampled
    for span in (mine, theirs):
        span.end()
    tracing.close()
    assert [span.trace_id for span in collector.spans] == [PARENT.trace_id]


@pytest.mark.parametrize("limit", [0, 0.5, 3])
def test_not_more_traces_a_second_are_kept_than_asked_for(collector: Collector, limit: float) -> None:
    telemetry.export_spans(Tracing("otlp", collector.url, max_per_s=limit), "api", "c")
    began = time.monotonic()
    posts, reads = ([tracing.begin(name, None, kind="server") for _ in range(50)] for name in ("POST", "GET"))
    theirs = [tracing.begin("POST", PARENT, kind="server") for _ in range(50)]
    most = math.ceil(limit + limit * (time.monotonic() - began)) if limit else 50
    assert 1 <= kept(posts) <= most
    assert 1 <= kept(reads) <= most
    assert kept(theirs) == 50


@pytest.mark.parametrize(("parent", "limit", "most"), [(None, 3, 4), (None, 0, 50), (PARENT, 3, 50)])
def test_a_batch_is_kept_like_so_many_requests(
    collector: Collector, parent: TraceContext | None, limit: float, most: int
) -> None:
    telemetry.export_spans(Tracing("otlp", collector.url, max_per_s=limit), "api", "c")
    began = time.monotonic()
    request = tracing.begin("POST", parent, kind="server")
    jobs = [request.onward() for _ in range(50)]
    passed = math.ceil(limit * (time.monotonic() - began))
    assert jobs[0] == request.context
    assert {job for job in jobs if job is not None} == {request.context}
    assert min(most, 4) <= sum(job is not None for job in jobs) <= most + passed


def test_a_limit_gives_again_after_a_while(collector: Collector) -> None:
    telemetry.export_spans(Tracing("otlp", collector.url, max_per_s=1), "api", "c")
    assert kept([tracing.begin("POST", None, kind="server") for _ in range(100)]) < 100
    deadline = time.monotonic() + HANG_S
    while not kept([tracing.begin("POST", None, kind="server")]):
        assert time.monotonic() < deadline


def test_spans_lie_inside_each_other_and_say_how_they_failed(collector: Collector) -> None:
    collector.spans.clear()
    telemetry.export_spans(Tracing("otlp", collector.url), "worker", "c")
    attempt = tracing.begin("attempt", PARENT, kind="consumer", span_id="1" * 16)
    with attempt.child("prepare"), tracing.step("pull", {"container.image.name": "busybox"}):
        pass
    with pytest.raises(RuntimeError), attempt.child("run"):
        raise RuntimeError("no more")
    with tracing.step("of no span"):
        attempt.end()
    tracing.close()
    found = {span.name: span for span in collector.of(PARENT.trace_id)}
    assert found.keys() == {"attempt", "prepare", "pull", "run"}
    assert (found["attempt"].id, found["attempt"].parent) == ("1" * 16, PARENT.span_id)
    assert [found[name].parent for name in ("prepare", "run", "pull")] == ["1" * 16, "1" * 16, found["prepare"].id]
    assert (found["run"].failed, found["pull"].failed) == ("RuntimeError: no more", "")
    assert found["pull"].about == {"container.image.name": "busybox"}
    assert attempt.context == PARENT.under("1" * 16)


def test_a_collector_that_is_away_is_waited_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    telemetry.export_spans(Tracing("otlp", "http://127.0.0.1:9"), "worker", "c")
    for _ in range(3000):
        tracing.begin("attempt", PARENT, kind="consumer").end()
    tracing.close()
    assert not tracing.on()


def test_the_collector_knows_who_speaks(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    collector.spans.clear()
    for name in ("", "mine"):
        monkeypatch.setenv("OTEL_SERVICE_NAME", name)
        telemetry.export_spans(Tracing("otlp", collector.url), "scheduler", "c")
        tracing.begin("place", PARENT, kind="producer").end()
        tracing.close()
    assert [span.service for span in collector.spans] == ["windlass-scheduler", "mine"]
