"""New ids: the one place where a clock and random bits become an identity."""

import secrets
import time

from windlass.core.ids import make_id


def new_id(prefix: str) -> str:
    """A fresh id of this kind, such as job_01k…"""
    return make_id(prefix, time.time_ns() // 1_000_000, secrets.randbits(74))
