"""New ids: the one place where a clock and random bits become an identity."""

import secrets
import time

from windlass.core.access import LETTERS, RANDOM_LETTERS, Role, make_token
from windlass.core.ids import make_id


def new_id(prefix: str) -> str:
    """A fresh id of this kind, such as job_01k…"""
    return make_id(prefix, time.time_ns() // 1_000_000, secrets.randbits(74))


def new_token(role: Role) -> str:
    """A fresh token of this role's kind, such as wl_7Hq…"""
    return make_token(role, [secrets.randbelow(len(LETTERS)) for _ in range(RANDOM_LETTERS)])
