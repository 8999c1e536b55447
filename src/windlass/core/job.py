"""A job's payload identity."""

import hashlib


def fingerprint(canonical_spec: bytes) -> str:
    """What two submits must share to be the same under one Idempotency-Key: SHA-256 of the canonical spec."""
    return hashlib.sha256(canonical_spec).hexdigest()
