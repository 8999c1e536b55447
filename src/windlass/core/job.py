"""A job's payload identity."""

import hashlib
from dataclasses import fields

from windlass.core.spec import JobSpec

#: Fields a spec has got since keys were first given out. Left as they are by default they count for nothing, so that a
#: request from before an upgrade, sent again after it, is still the same.
ADDED = ("max_infra_losses", "not_before", "start_delay")


def payload(spec: JobSpec) -> dict[str, object]:
    """What two submits must share to be the same under one Idempotency-Key, in the order of the spec's fields."""
    values = ((field, getattr(spec, field.name)) for field in fields(spec))
    return {field.name: value for field, value in values if field.name not in ADDED or value != field.default}


def fingerprint(canonical_payload: bytes) -> str:
    """A payload's SHA-256."""
    return hashlib.sha256(canonical_payload).hexdigest()
