"""Spans of our own work, for whoever runs an OpenTelemetry collector.

Off by default, and free then: nothing of OpenTelemetry is loaded, no span is made, and the context a client sent is
passed on to its job as it came. `windlass.exporting` stands behind it when it is on.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

from windlass.core.trace import TraceContext

Attributes = Mapping[str, str | int | float | bool]
Kind = Literal["server", "producer", "consumer"]

_NOTHING = nullcontext()


@dataclass(slots=True)
class Span:
    """A span that nobody keeps. `context` is where those below it belong: its own place, or what it was given."""

    context: TraceContext | None

    def child(self, name: str, attributes: Attributes | None = None) -> AbstractContextManager[None]:
        """A span below this one, for as long as one is inside."""
        return _NOTHING

    def onward(self) -> TraceContext | None:
        """Where one more job that this request makes belongs; None for one that is not traced."""
        return self.context

    def note(self, name: str, attributes: Attributes) -> None:
        """What is known of it now: its name and more."""

    def link(self, other: TraceContext) -> None:
        """It has to do with that one, too."""

    def end(self, error: str = "", attributes: Attributes | None = None, *, at_s: float | None = None) -> None:
        """It is over, by an error or well; at_s is in seconds since 1970, now if not given."""


#: The span of the request at hand.
current: ContextVar[Span] = ContextVar("span", default=Span(None))  # noqa: B039  # nothing of it changes


class Tracer(Protocol):
    """What makes spans that are kept."""

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
        ...

    def step(self, name: str, attributes: Attributes | None) -> AbstractContextManager[None]:
        """See tracing.step."""
        ...

    def close(self) -> None:
        """Send what waits, within a moment."""
        ...


_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Make spans with this from now on; with None make none."""
    global _tracer
    _tracer = tracer


def on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def close() -> None:
    """Send what waits, within a moment, and make no more."""
    if _tracer is not None:
        _tracer.close()
    use(None)


def begin(
    name: str,
    parent: TraceContext | None,
    *,
    kind: Kind,
    span_id: str | None = None,
    attributes: Attributes | None = None,
    links: Sequence[TraceContext] = (),
    began_s: float | None = None,
) -> Span:
    """A span below the parent, or one that begins a trace. `span_id` is the one it shall have; `began_s` is in seconds
    since 1970, now if not given."""
    if _tracer is None:
        return Span(parent)
    return _tracer.begin(name, parent, kind, span_id, attributes, links, began_s)


def step(name: str, attributes: Attributes | None = None) -> AbstractContextManager[None]:
    """A span below the one this code runs in, for as long as one is inside."""
    return _NOTHING if _tracer is None else _tracer.step(name, attributes)


def below(parent: TraceContext | None, span_id: str) -> TraceContext | None:
    """Where those belong that come after the span of this id; when none is made, where it would have belonged."""
    return parent if parent is None or _tracer is None else parent.under(span_id)
