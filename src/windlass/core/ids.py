"""Identities: a type prefix and a UUIDv7 (RFC 9562) in 26 Crockford base32 letters, so that ids sort by time of birth.

Pure: the moment and the random bits come in as values.
"""

import re
from typing import Final, NewType

JobId = NewType("JobId", str)
TaskId = NewType("TaskId", str)
AttemptId = NewType("AttemptId", str)
NodeId = NewType("NodeId", str)

JOB: Final = "job"
TASK: Final = "tsk"
ATTEMPT: Final = "att"
NODE: Final = "node"
SCHEDULER: Final = "sched"
TOKEN: Final = "tok"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_SHAPE = re.compile(r"(job|tsk|att|node|sched|tok)_[0-9a-hjkmnp-tv-z]{26}")


def make_id(prefix: str, unix_ms: int, random_bits: int) -> str:
    """An id born at unix_ms (milliseconds) with 74 random bits: version and variant bits as RFC 9562 section 5.7."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random_bits >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | random_bits & 0x3FFF_FFFF_FFFF_FFFF
    letters = "".join([_PAIRS[value >> shift & 0x3FF] for shift in range(120, -1, -10)])
    return f"{prefix}_{letters}"


def is_id(text: str, prefix: str) -> bool:
    """Whether text has the form of an id of this kind."""
    return text.startswith(prefix + "_") and _SHAPE.fullmatch(text) is not None


def task_of(job_id: JobId, index: int = 0) -> TaskId:
    """The id of a job's task: the job's letters, with the index behind them for all but the first."""
    letters = job_id.removeprefix(JOB + "_")
    return TaskId(f"{TASK}_{letters}" if index == 0 else f"{TASK}_{letters}_{index}")
