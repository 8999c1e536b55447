"""Spans on their way to a collector: the one place that knows the OpenTelemetry SDK (extra `otel`).

What the settings leave open is read from the standard OTEL_* variables by the SDK itself. It samples, collects and
sends; a span in the making is ours, for the SDK's own takes nearly three times as long to make.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import Attributes as OtelAttributes

from windlass import __version__
from windlass.core.trace import TraceContext
from windlass.settings import Tracing
from windlass.tracing import Attributes, Kind, Span

log = structlog.get_logger("tracing")

#: Seconds the end of a role waits for spans to go out.
CLOSE_S = 0.7
_NANO = 1_000_000_000
_NOWHERE, _FINE = Context(), Status()
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_KINDS = {"server": SpanKind.SERVER, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER}


def tracer(settings: Tracing, role: str, cluster: str) -> "SdkTracer":
    """Spans of this role, sent in batches by a thread of its own. What a collector does not take in time is dropped:
    nothing ever waits for it."""
    endpoint = f"{settings.endpoint.rstrip('/')}/v1/traces" if settings.endpoint else None
    # Its complaints, one a batch, become two lines an outage.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    sampler = _sampler(settings)
    jobs = Ration(settings.max_per_s) if sampler is not None and settings.max_per_s else None
    return SdkTracer(_Told(OTLPSpanExporter(endpoint)), sampler, _resource(role, cluster), jobs)


def _sampler(settings: Tracing) -> Sampler | None:
    if "OTEL_TRACES_SAMPLER" in os.environ:
        return None  # as it says
    share = TraceIdRatioBased(settings.sample_ratio)
    return ParentBased(Rationed(share, settings.max_per_s) if settings.max_per_s else share)


def _resource(role: str, cluster: str) -> Resource:
    """Who speaks; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    ours = {
        "service.name": f"windlass-{role}",
        "service.namespace": cluster,
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


class Ration:
    """So many a second, and as many at once after a second without any (a token bucket, as in network shaping)."""

    def __init__(self, per_s: float) -> None:
        self._per_s, self._most = per_s, max(per_s, 1.0)
        self._left = self._most
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether there was one left."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Rationed(Sampler):
    """Another sampler, of which not more than so many traces a second are kept. Requests that read have a ration of
    their own: whoever polls leaves no submit without a trace."""

    def __init__(self, inner: Sampler, per_s: float) -> None:
        self._inner = inner
        self._reads, self._writes = Ration(per_s), Ration(per_s)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: OtelAttributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See opentelemetry.sdk.trace.sampling."""
        said = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if said.decision.is_sampled() and not (self._reads if name in _READS else self._writes).take():
            return SamplingResult(Decision.DROP, None, said.trace_state)
        return said

    def get_description(self) -> str:
        """What it is, for people."""
        return f"Rationed{{{self._inner.get_description()}}}"


class _Told(SpanExporter):
    """Another exporter, whose outages are told by a line at their beginning and one at their end."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed != self._failing:
            self._failing = failed
            log.warning("spans_dropped" if failed else "spans_exported_again", spans=len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class _Known(Resource):
    """A resource that is hashed once, not once a span."""

    def __init__(self, found: Resource) -> None:
        super().__init__(found.attributes, found.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class SdkTracer:
    """The Tracer of `windlass.tracing`. Of a trace that begins here and is not kept, nothing is passed on. Of a batch's
    jobs in one that is kept, those beyond the first are kept by a ration, for each is as dear as a request."""

    def __init__(
        self, exporter: SpanExporter, sampler: Sampler | None, resource: Resource, jobs: Ration | None = None
    ) -> None:
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self.resource, self.scope = _Known(self._provider.resource), InstrumentationScope("windlass", __version__)
        self.processor = BatchSpanProcessor(exporter)
        self._provider.add_span_processor(self.processor)
        self.jobs = jobs
        self._ids = RandomIdGenerator()
        self._by_parent = isinstance(self._provider.sampler, ParentBased)

    def begin(
        self,
        name: str,
        parent: TraceContext | None,
        kind: Kind,
        span_id: str | None,
        attributes: Attributes | None,
        links: Sequence[TraceContext],
        began_s: float | None,
    ) -> Span:
        """See tracing.begin."""
        above = None if parent is None else _place(parent)
        mine = self._ids.generate_span_id() if span_id is None else int(span_id, 16)
        place = self._sampled(name, above, mine, _KINDS[kind])
        if not place.trace_flags.sampled:
            return Span(None if above is None else _context(place))
        began = time.time_ns() if began_s is None else int(began_s * _NANO)
        made = SdkSpan(_context(place), self, name, place, above, _KINDS[kind], dict(attributes or ()), began)
        for link in links:
            made.link(link)
        return made

    def below(self, above: "SdkSpan", name: str, attributes: Attributes | None) -> "SdkSpan":
        """A span that begins now, inside another of this process."""
        inside = above.place
        place = SpanContext(
            inside.trace_id, self._ids.generate_span_id(), False, inside.trace_flags, inside.trace_state
        )
        return SdkSpan(None, self, name, place, above.place, SpanKind.INTERNAL, dict(attributes or ()), time.time_ns())

    def step(self, name: str, attributes: Attributes | None) -> AbstractContextManager[None]:
        """See tracing.step."""
        around = _around.get()
        return nullcontext() if around is None else self.below(around, name, attributes)

    def _sampled(self, name: str, above: SpanContext | None, span_id: int, kind: SpanKind) -> SpanContext:
        """Where a span is: in its parent's trace or in one of its own, and whether that is kept."""
        if above is not None and self._by_parent:  # most spans: the sampler would say the same, at ten times the cost
            return SpanContext(above.trace_id, span_id, False, above.trace_flags, above.trace_state)
        context = _NOWHERE if above is None else trace.set_span_in_context(NonRecordingSpan(above), _NOWHERE)
        trace_id = self._ids.generate_trace_id() if above is None else above.trace_id
        said = self._provider.sampler.should_sample(context, trace_id, name, kind)
        random = TraceFlags.RANDOM_TRACE_ID if above is None else above.trace_flags & TraceFlags.RANDOM_TRACE_ID
        flags = TraceFlags(random | (TraceFlags.SAMPLED if said.decision.is_sampled() else 0))
        return SpanContext(trace_id, span_id, False, flags, said.trace_state)

    def close(self) -> None:
        """Send what waits, within CLOSE_S."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_S)


@dataclass(slots=True)
class SdkSpan(Span):
    """A span that is sent at its end."""

    tracer: SdkTracer
    name: str
    place: SpanContext
    above: SpanContext | None
    kind: SpanKind
    attributes: dict[str, str | int | float | bool]
    began_ns: int
    links: list[Link] = field(default_factory=list[Link])
    before: "Token[SdkSpan | None] | None" = None
    jobs: int = 0

    def onward(self) -> TraceContext | None:
        self.jobs += 1
        ration = self.tracer.jobs if self.above is None else None  # else whoever began the trace has decided
        return self.context if self.jobs == 1 or ration is None or ration.take() else None

    def child(self, name: str, attributes: Attributes | None = None) -> AbstractContextManager[None]:
        return self.tracer.below(self, name, attributes)

    def __enter__(self) -> None:
        self.before = _around.set(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self.before is not None:
            _around.reset(self.before)
        failed = error is not None and isinstance(error, Exception)
        self.end(f"{type(error).__name__}: {error}" if failed else "")

    def note(self, name: str, attributes: Attributes) -> None:
        self.name = name
        self.attributes |= attributes

    def link(self, other: TraceContext) -> None:
        self.links.append(Link(_place(other)))

    def end(self, error: str = "", attributes: Attributes | None = None, *, at_s: float | None = None) -> None:
        self.tracer.processor.on_end(
            ReadableSpan(
                self.name,
                self.place,
                self.above,
                self.tracer.resource,
                {**self.attributes, **(attributes or {})},
                links=self.links,
                kind=self.kind,
                status=Status(StatusCode.ERROR, error) if error else _FINE,
                start_time=self.began_ns,
                end_time=time.time_ns() if at_s is None else int(at_s * _NANO),
                instrumentation_scope=self.tracer.scope,
            )
        )


#: The span this code runs in, for steps below it.
_around: "ContextVar[SdkSpan | None]" = ContextVar("around", default=None)


def _place(context: TraceContext) -> SpanContext:
    state = TraceState.from_header([context.state]) if context.state else None
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), True, TraceFlags(context.flags), state)


def _context(at: SpanContext) -> TraceContext:
    state = at.trace_state.to_header() if at.trace_state else ""
    return TraceContext(f"{at.trace_id:032x}", f"{at.span_id:016x}", int(at.trace_flags), state)
