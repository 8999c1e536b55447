"""A job's spec: what a user may ask for, as values. How one is read from what a user wrote stands in fields.py."""

import re
from dataclasses import dataclass, field

from windlass.core.states import Driver


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault: `field` is the path as users write it (`resources.cpu`), `value` what was given, shortened."""

    field: str
    message: str
    value: str | None = None

    @property
    def pointer(self) -> str:
        """The same path as a JSON Pointer (RFC 6901)."""
        return "/" + re.sub(r"\[(\d+)\]", r".\1", self.field).replace(".", "/") if self.field else ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task needs: cores, bytes, a count of processes."""

    cpu: float = 1.0
    memory: int = 512 * 2**20
    memory_max: int | None = None
    pids: int = 256
    shm_size: int | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delay before retry n (from 0): min(initial * factor**n, max) seconds, spread by ± jitter (a share of it)."""

    initial: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder of the node shown in the container; the operator's allow-list decides whether it may be."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A valid spec in canonical numbers. Times are seconds; None means no limit, or the image's own choice."""

    name: str | None = None
    image: str | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    workdir: str | None = None
    user: str | None = None
    driver: Driver = Driver.DOCKER
    resources: Resources = Resources()
    max_retries: int = 3
    max_infra_losses: int = 5
    backoff: Backoff = Backoff()
    attempt_timeout: float | None = None
    job_deadline: float | None = None
    queue_timeout: float | None = None
    start_timeout: float = 600.0
    stop_grace: float = 10.0
    priority: int = 0
    queue: str = "default"
    labels: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    volumes: tuple[Volume, ...] = ()
    network: str = "bridge"
    exclusive: bool = False
    ttl_after_finished: float | None = None
    not_before: str | None = None
    start_delay: float | None = None
