"""Trace context (W3C), as values: what a client sends along, what is kept with a job, what its attempts carry on.

The ids of a job's spans follow from what they are about. So another leader, a restarted worker and the next attempt
know them without being told, and a span begun twice is still one.
"""

import hashlib
import re
from dataclasses import dataclass, replace

from windlass.core.ids import TaskId

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_\-*/]{0,240}(@[a-z][a-z0-9_\-*/]{0,13})?=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
#: What every tracing system must at least pass on; longer states are left out.
STATE_LIMIT, MEMBERS_LIMIT = 512, 32
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: `span_id` is the parent of whatever comes next. `state` belongs to tracing systems."""

    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""

    @property
    def traceparent(self) -> str:
        """As it is sent and stored."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace keeps it."""
        return bool(self.flags & _SAMPLED)

    def under(self, span_id: str) -> "TraceContext":
        """The same trace, one span further."""
        return replace(self, span_id=span_id)


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """What a traceparent says, None when it is not valid; of a tracestate that is not valid nothing is kept."""
    found = _PARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # A later version may add to the end, version 00 not; ff is none, and neither are ids of zeros.
    if version == "ff" or (version == "00" and more) or not (trace_id.strip("0") and span_id.strip("0")):
        return None
    known = int(flags, 16) & (0x03 if version == "00" else _SAMPLED)
    return TraceContext(trace_id, span_id, known, _state(tracestate))


def _state(text: str) -> str:
    members = [member.strip(" \t") for member in text.split(",") if member.strip(" \t")]
    sound = len(members) <= MEMBERS_LIMIT and all(map(_MEMBER.fullmatch, members))
    joined = ",".join(members)
    return joined if sound and len(joined) <= STATE_LIMIT else ""


def place_span(task_id: TaskId, number: int) -> str:
    """The id of the span in which a task's attempt of this number is placed."""
    return _span_id("place", task_id, number)


def attempt_span(task_id: TaskId, number: int) -> str:
    """The id of the span that is a task's attempt of this number."""
    return _span_id("attempt", task_id, number)


def _span_id(what: str, task_id: TaskId, number: int) -> str:
    return hashlib.sha256(f"{what} {task_id} {number}".encode()).hexdigest()[:16]
