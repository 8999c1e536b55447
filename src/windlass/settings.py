"""Settings: one frozen tree, read once in a composition root and passed down as values.

`windlass.sources.load` fills it. Names ending in _s are seconds, in _bytes bytes.
"""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(gt=0)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]


def default_data() -> Path:
    """Where things are kept when nobody says: the platform's user data folder, /var/lib/windlass for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/windlass")
    import platformdirs

    return platformdirs.user_data_path("windlass")


def _cores() -> float:
    return float(len(os.sched_getaffinity(0)))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def masked(url: str) -> str:
    """The URL as it may be shown: a password in it is replaced by three stars."""
    shown = re.sub(r"(?<=://)([^/?#@]*?):[^/?#]*@", r"\1:***@", url)
    return re.sub(r"(?i)((?:password|sslpassword)=)[^&\s]*", r"\1***", shown)


class Database(Struct, frozen=True, forbid_unknown_fields=True):
    """PostgreSQL, the ledger. Only the API and the scheduler know it."""

    #: postgresql://user:password@host:5432/name; required by api, scheduler and migrate
    url: str = ""
    #: connections per process
    pool_max: Annotated[int, Meta(ge=1, le=1000)] = 8
    #: transaction: PgBouncer or another pooler in transaction mode is between; see [how](../how-to/pgbouncer.md)
    pooler: Literal["none", "transaction"] = "none"
    #: file with the CA that signed the server's certificate: connections are TLS then, and the server's name is checked
    ca_file: str = ""

    @property
    def pooled(self) -> bool:
        """Whether statements may each run in another session."""
        return self.pooler == "transaction"

    def __repr__(self) -> str:
        return f"Database(url={masked(self.url)!r}, pool_max={self.pool_max}, pooler={self.pooler!r})"


class Redis(Struct, frozen=True, forbid_unknown_fields=True):
    """Redis or Valkey, the doorbell and the belt; may lose everything at any time."""

    #: redis://host:6379/0, rediss://... or unix:///path/to/socket; required by every role, save workers that joined
    url: str = ""
    #: file with the CA that signed the server's certificate, for rediss://; default the system's
    ca_file: str = ""
    #: what the API tells workers that join; default `url` without its user and password
    worker_url: str = ""

    def __repr__(self) -> str:
        return f"Redis(url={masked(self.url)!r}, worker_url={masked(self.worker_url)!r})"


class Api(Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP API."""

    #: address to listen on
    host: str = "127.0.0.1"
    #: port to listen on
    port: Port = 8000
    #: where workers find the API
    url: str = "http://127.0.0.1:8000"
    #: what runs a job that names an image and no driver
    container_driver: Literal["docker", "kubernetes"] = "docker"
    #: nobody needs a token, and everybody may do everything; `windlass up` sets it for its own API, on loopback
    allow_anonymous: bool = False
    #: file with one admin token, made by `windlass token generate` for the first start; read again when it changes
    admin_token_file: str = ""
    #: file with a join token for any number of workers (`windlass token generate --join`); read again when it changes
    join_token_file: str = ""
    #: file with the certificate chain to serve HTTPS with; read again when it changes
    tls_cert_file: str = ""
    #: file with the certificate's private key
    tls_key_file: str = ""
    #: where workers look for the CA that signed the API's certificate; default the usual public ones
    ca_file: str = ""
    #: days that records of changes (`windlass audit`) are kept; 0: for ever
    audit_keep_days: Annotated[float, Meta(ge=0)] = 90.0

    def __post_init__(self) -> None:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("api.tls_cert_file and api.tls_key_file belong together: set both or none")

    def __repr__(self) -> str:
        return f"Api(host={self.host!r}, port={self.port}, url={masked(self.url)!r})"


class Scheduler(Struct, frozen=True, forbid_unknown_fields=True):
    """Placement and the clocks of leadership and node loss. Names ending in _s are seconds."""

    #: best_fit packs nodes full, spread keeps them evenly used
    placement: Literal["best_fit", "spread"] = "best_fit"
    #: after this wait room is kept free for a big task
    reserve_after_s: Seconds = 60.0
    #: a leader that has not renewed for this long is no longer one
    lease_ttl_s: Seconds = 3.0
    #: how often a leader renews
    lease_renew_s: Seconds = 1.0
    #: silence after which a node gets no new work
    node_suspect_s: Seconds = 6.0
    #: silence after which a node's attempts are lost
    node_lost_s: Seconds = 15.0

    def __post_init__(self) -> None:
        if self.lease_renew_s >= self.lease_ttl_s:
            raise ValueError("scheduler.lease_renew_s must be below scheduler.lease_ttl_s")
        if self.node_suspect_s >= self.node_lost_s:
            raise ValueError("scheduler.node_suspect_s must be below scheduler.node_lost_s")


class Worker(Struct, frozen=True, forbid_unknown_fields=True):
    """One node's agent."""

    #: the node's name, unique in the cluster; default the host name
    name: Name = field(default_factory=lambda: socket.gethostname().strip(".-_")[:63] or "node")
    #: folder for the journal, logs on their way and attempts' folders
    data: Path = field(default_factory=lambda: default_data() / "worker")
    #: many workers share `data`: each takes a numbered folder in it that no other has, and the number behind its name
    shared_data: bool = False
    #: cores to give away ("4", "500m"); default all this process may use
    cpu: float = field(default_factory=_cores)
    #: bytes to give away ("8Gi"); default the machine's memory
    memory: int = field(default_factory=_memory)
    #: what starts containers, in order of preference
    drivers: tuple[Literal["docker", "process", "kubernetes", "mock"], ...] = ("docker",)
    #: the operator's yes to jobs as plain processes of this machine
    allow_process: bool = False
    #: host folders jobs may mount
    volumes_allowed: tuple[str, ...] = ()
    #: container profile
    profile: Literal["standard", "restricted"] = "standard"
    #: bytes kept of each of an attempt's two streams, half from its head and half from its tail ("10Mi")
    log_cap_bytes: int = 10 * 2**20
    #: the Docker Engine; empty: DOCKER_HOST, else the usual socket
    docker_url: str = ""
    #: the Kubernetes API server; empty: the one of the Pod this worker runs in
    kubernetes_url: str = ""
    #: a kubeconfig, whose current context is used instead
    kubernetes_config: str = ""
    #: where jobs run as Pods; empty: the worker's own namespace, or the context's
    kubernetes_namespace: str = ""
    #: with worker.kubernetes_url: the file of its bearer token, read again as it changes
    kubernetes_token_file: str = ""
    #: with worker.kubernetes_url: the file of the authority that signed its certificate
    kubernetes_ca_file: str = ""
    #: labels of the node
    labels: dict[str, str] = field(default_factory=dict[str, str])
    #: how often the node says it lives
    heartbeat_s: Seconds = 2.0
    #: what SIGTERM does to running jobs: drain them, leave them to the next agent, or stop them; SIGHUP leaves them
    on_exit: Literal["drain", "leave", "stop"] = "drain"
    #: with on_exit=drain: jobs that still run after this are stopped, and run elsewhere free of charge
    drain_deadline_s: Annotated[float, Meta(ge=0)] = 30.0
    #: without a word from Redis or the API for this long, the watchdog ends what runs here
    self_fence_s: Seconds = 12.0
    #: with on_exit=stop: all jobs are ended within this
    stop_within_s: Seconds = 5.0
    #: join token, for the first start: the node gets credentials of its own, kept in `data`
    join: str = ""
    #: file with a join token; read only when there are no credentials yet
    join_file: str = ""

    def __repr__(self) -> str:
        return f"Worker(name={self.name!r}, data={str(self.data)!r}, join={'***' if self.join else ''!r})"

    def __post_init__(self) -> None:
        if "kubernetes" in self.drivers and ("docker" in self.drivers or self.allow_process):
            raise ValueError(
                "worker.drivers: kubernetes offers a namespace's room, not a machine's; give it a worker of its own"
            )


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """A role's own page for Prometheus. The API has one at /metrics on its own port, too."""

    #: address to listen on
    host: str = "127.0.0.1"
    #: port of /metrics; 0: none
    port: Port = 0


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """Our own logs, written to standard error."""

    #: the least that is written: debug, info, warning or error
    level: Literal["debug", "info", "warning", "error"] = "info"
    #: auto: console on a terminal, else json
    format: Literal["auto", "json", "console"] = "auto"


class Tracing(Struct, frozen=True, forbid_unknown_fields=True):
    """Spans for OpenTelemetry, with the extra `otel`; see [tracing](../how-to/tracing.md)."""

    #: otlp: spans go to a collector over HTTP; auto: if OTEL_TRACES_EXPORTER or an OTEL_EXPORTER_OTLP_ENDPOINT says so
    exporter: Literal["auto", "none", "otlp"] = "auto"
    #: the collector; empty: OTEL_EXPORTER_OTLP_ENDPOINT, else http://localhost:4318
    endpoint: str = ""
    #: share of the traces begun here that is kept, unless OTEL_TRACES_SAMPLER says; of others, whoever began them says
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    #: of those not more than so many a second, by each API; of requests that read as many again; 0: no limit
    max_per_s: Annotated[float, Meta(ge=0)] = 20.0

    def __repr__(self) -> str:
        endpoint = masked(self.endpoint)
        shares = f"sample_ratio={self.sample_ratio!r}, max_per_s={self.max_per_s!r}"
        return f"Tracing(exporter={self.exporter!r}, endpoint={endpoint!r}, {shares})"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    #: name of the cluster; prefixes stream keys and labels containers
    cluster: Name = "windlass"
    database: Database = field(default_factory=Database)
    redis: Redis = field(default_factory=Redis)
    api: Api = field(default_factory=Api)
    scheduler: Scheduler = field(default_factory=Scheduler)
    worker: Worker = field(default_factory=Worker)
    metrics: Metrics = field(default_factory=Metrics)
    log: Log = field(default_factory=Log)
    tracing: Tracing = field(default_factory=Tracing)
