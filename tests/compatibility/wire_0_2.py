"""The messages of version 0.2, as they stood there: what its workers send, and all that they can read; what its
schedulers send, and all that its API can read.

Never to be edited."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

AttemptId = JobId = NodeId = str


class Cause(StrEnum):
    """Why an attempt did not succeed."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OOM = "oom"
    TIMEOUT = "timeout"
    IMAGE_PULL = "image_pull"
    START_FAILED = "start_failed"
    NODE_LOST = "node_lost"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    DRAINED = "drained"  # its node was drained: it costs the task nothing


class Driver(StrEnum):
    DOCKER = "docker"
    PROCESS = "process"
    MOCK = "mock"


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


#: Bounds are those of the ledger's columns: a message it could not write down is not read.
Ago = Annotated[float, Meta(ge=-(10**9), le=10**9)]


class Message(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Root of all messages."""


class Launch(Message, frozen=True, tag="launch"):
    """Run this attempt. Idempotent by (attempt_id, fence)."""

    attempt_id: AttemptId
    fence: int
    number: int
    job_id: JobId
    spec: JobSpec
    #: seconds from sending until the job's deadline
    deadline_in: float | None = None


class LaunchRaw(Message, frozen=True, tag="launch"):
    """The same, as the scheduler sends it: the spec passes through as stored."""

    attempt_id: AttemptId
    fence: int
    number: int
    job_id: JobId
    spec: msgspec.Raw
    deadline_in: float | None = None


class Stop(Message, frozen=True, tag="stop"):
    """End this attempt: stop signal, grace, kill. An attempt not known here is answered with its end."""

    attempt_id: AttemptId
    fence: int
    cause: Cause
    message: str = ""


class Forget(Message, frozen=True, tag="forget"):
    """The ledger has these outcomes: the journal need not keep them."""

    attempt_ids: tuple[AttemptId, ...]


class Introduce(Message, frozen=True, tag="introduce"):
    """The leader does not know this node: say who you are."""


class Heard(Message, frozen=True, tag="heard"):
    """The leader has read this node's beat: somebody leads, and can hear."""

    #: it has read that the node drains, too: nothing more will be placed there
    draining: bool = False


class Tell(Message, frozen=True, tag="tell"):
    """Say again where these are: what was said of them may have been lost."""

    attempt_ids: tuple[AttemptId, ...]


Command = Launch | Stop | Forget | Introduce | Heard | Tell
CommandOut = LaunchRaw | Stop | Forget | Introduce | Heard | Tell


class Hello(Message, frozen=True, tag="hello"):
    """A node describes itself: at start, on change, and when asked."""

    node_id: NodeId
    name: str
    millis: Annotated[int, Meta(ge=0, lt=2**31)]
    memory: Annotated[int, Meta(ge=0, le=2**60)]
    drivers: tuple[str, ...]
    version: str
    labels: Mapping[str, str] = {}
    facts: Mapping[str, Any] = {}
    #: it takes no more work: it is about to end
    draining: bool = False


class Beat(Message, frozen=True, tag="beat"):
    """The node lives; `attempts` is all it holds, running or ended and not yet told to forget."""

    node_id: NodeId
    attempts: tuple[AttemptId, ...] = ()
    #: those of them that have ended
    ended: tuple[AttemptId, ...] = ()
    #: when it was made, in seconds of the node's clock since this boot: of two beats the later one counts
    boot: str = ""
    at: float = 0.0


class Bye(Message, frozen=True, tag="bye"):
    """The node's worker ends, and leaves nothing behind."""

    node_id: NodeId


class Prepared(Message, frozen=True, tag="prepared"):
    node_id: NodeId
    attempt_id: AttemptId


class Started(Message, frozen=True, tag="started"):
    node_id: NodeId
    attempt_id: AttemptId
    ago: Ago = 0.0


class Exited(Message, frozen=True, tag="exited"):
    """It is proven gone, its output is in the log store, its outcome in the node's journal."""

    node_id: NodeId
    attempt_id: AttemptId
    ago: Ago = 0.0
    cause: Cause | None = None
    exit_code: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None
    message: str = ""
    started_ago: Ago | None = None


class Refused(Message, frozen=True, tag="refused"):
    """The node does not take this attempt; nothing ran."""

    node_id: NodeId
    attempt_id: AttemptId
    message: str


class Bell(Message, frozen=True, tag="bell"):
    """Something was committed that the leader should look at: new jobs, or orders in the outbox."""

    what: str
    #: of new jobs: their shapes (none: any), and the highest priority among them
    shapes: tuple[int, ...] = ()
    priority: int = 1000


Report = Hello | Beat | Bye | Prepared | Started | Exited | Refused | Bell


class Ended(Message, frozen=True, tag="ended"):
    """News: these jobs are over."""

    job_ids: tuple[JobId, ...]


class Output(Message, frozen=True, tag="output"):
    """News: these attempts have new log chunks."""

    attempt_ids: tuple[AttemptId, ...]


class Happened(Message, frozen=True, tag="happened"):
    """News: there are new events."""


News = Ended | Output | Happened

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_list = msgspec.json.Decoder(list[msgspec.Raw])
#: A NUL as JSON writes it. PostgreSQL's text can't hold one, so none gets past this border.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
#: What can be wrong with an entry: not ours, not text, or nested deeper than can be read.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode(messages: Sequence[Message]) -> bytes:
    """Messages as one stream entry's content."""
    return _encoder.encode(messages)


class Reader(Generic[T]):
    """Decodes entries into one family of messages; what it can't read is counted and skipped, never fatal."""

    def __init__(self, family: Any) -> None:
        self._all: msgspec.json.Decoder[list[T]] = msgspec.json.Decoder(list[family])
        self._one: msgspec.json.Decoder[T] = msgspec.json.Decoder(family)
        self.skipped = 0

    def read(self, entries: Iterable[bytes]) -> list[T]:
        """Every message of these entries, in order."""
        messages: list[T] = []
        for given in entries:
            entry = _NUL.sub(rb"\1", given) if b"\\u0000" in given else given
            try:
                messages += self._all.decode(entry)
            except _UNREADABLE:
                messages += self._singly(entry)
        return messages

    def _singly(self, entry: bytes) -> list[T]:
        """An entry with something unknown in it: what can be read of it."""
        found: list[T] = []
        try:
            pieces = _list.decode(entry)
        except _UNREADABLE:
            self.skipped += 1
            return found
        for piece in pieces:
            try:
                found.append(self._one.decode(piece))
            except _UNREADABLE:
                self.skipped += 1
        return found


def commands() -> Reader[Command]:
    """What a worker reads."""
    return Reader(Command)


def reports() -> Reader[Report]:
    """What the leader reads."""
    return Reader(Report)


def news() -> Reader[News]:
    """What API processes read."""
    return Reader(News)
