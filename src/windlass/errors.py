"""Every exception Windlass raises on purpose.

WindlassError
├── SpecError            a job's spec is not valid; carries one FieldError per fault
├── SettingsError        a setting is unknown or has a bad value; the message names it
├── NotFound             no such job, node or attempt
├── Conflict             the thing exists, but its state does not allow this
├── IdempotencyMismatch  the same Idempotency-Key came with another payload
├── Unavailable          the ledger cannot answer now; safe to try again
└── Fenced               this process no longer holds the leadership term it wrote with
"""

from windlass.core.spec import FieldError


class WindlassError(Exception):
    """Root of all errors raised on purpose."""


class SpecError(WindlassError):
    """A job's spec is not valid."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{e.field}: {e.message}" for e in errors))
        self.errors = errors


class SettingsError(WindlassError):
    """A setting is unknown or has a bad value."""


class NotFound(WindlassError):
    """No such thing."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"no {kind} {key!r}")
        self.kind, self.key = kind, key


class Conflict(WindlassError):
    """The thing exists, but its state does not allow this."""


class IdempotencyMismatch(WindlassError):
    """The same Idempotency-Key came with another payload."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(f"Idempotency-Key {key!r} was already used for {job_id} with another payload")
        self.key, self.job_id = key, job_id


class Unavailable(WindlassError):
    """The ledger cannot answer now; safe to try again."""


class Fenced(WindlassError):
    """This process no longer holds the leadership term it wrote with."""
