"""Which processes `windlass up` runs, and what each of them is told."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.cli.supervisor import Role
from windlass.embedded.folder import DataFolder
from windlass.settings import Settings
from windlass.sources import variable

HOST = "127.0.0.1"
#: Together with the servers' own times below the ten seconds a stop may take.
_WORKER_STOP_S, _ROLE_STOP_S = 5.5, 1.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many of which. `cpu` (cores) and `memory` (bytes) are each worker's; `processes`: jobs may be plain ones."""

    schedulers: int
    workers: int
    cpu: float
    memory: int
    processes: bool

    @staticmethod
    def of(settings: Settings, schedulers: int, workers: int, *, each: Sequence[bool], processes: bool) -> "Fleet":
        """`each` says of cpu and memory whether the settings' amount is every worker's; else they share it evenly, each
        with a core at least, or a job that asks for nothing special would fit nowhere on a small machine."""
        cpu, memory = settings.worker.cpu, settings.worker.memory
        if workers > 1 and not each[0]:
            cpu = max(int(cpu * 1000) // workers, min(int(cpu * 1000), 1000)) / 1000
        if workers > 1 and not each[1]:
            memory = max(memory // workers // _MIB, 1) * _MIB
        return Fleet(schedulers, workers, cpu, memory, processes)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers and the API are."""

    database_url: str
    redis_url: str
    port: int


def roles(fleet: Fleet, settings: Settings, config: Path | None, folder: DataFolder, at: Addresses) -> list[list[Role]]:
    """The API, the schedulers, the workers, not yet started; they end in the opposite order."""
    shared = {"redis.url": at.redis_url, "redis.ca_file": "", "log.format": "json"}
    ledger = shared | {"database.url": at.database_url, "database.pooler": "none", "database.ca_file": ""}
    api_url = f"http://{HOST}:{at.port}"
    api = ledger | {"api.host": HOST, "api.port": str(at.port), "api.url": api_url, "metrics.port": "0"}
    # its own API, on loopback: who is on this machine needs no token
    api |= {"api.allow_anonymous": "true", "api.admin_token_file": "", "api.join_token_file": "",
        "api.tls_cert_file": "", "api.tls_key_file": ""}  # fmt: skip
    ports = iter(range(settings.metrics.port, settings.metrics.port + fleet.schedulers + fleet.workers))

    def page() -> dict[str, str]:
        """Each one's own port for metrics, when there is to be any."""
        return {"metrics.port": str(next(ports))} if settings.metrics.port else {}

    def role(kind: str, name: str, own: Mapping[str, str], patience_s: float = _ROLE_STOP_S) -> Role:
        return Role(kind, name, _env(config, own), folder.log(name), patience_s)

    return [
        [role("api", "api", api)],
        [role("scheduler", name, ledger | page()) for name in _names("scheduler", fleet.schedulers)],
        [
            role(
                "worker", name, shared | {"api.url": api_url} | _worker(fleet, settings, folder, n) | page(),
                _WORKER_STOP_S,
            )
            for n, name in enumerate(_names("worker", fleet.workers), 1)
        ],
    ]  # fmt: skip


def _worker(fleet: Fleet, settings: Settings, folder: DataFolder, number: int) -> dict[str, str]:
    """The settings of one worker. The first keeps its folder however many there are, and so its node's identity."""
    drivers = [driver for driver in settings.worker.drivers if driver != "process"]
    return {
        "worker.join": "",
        "worker.join_file": "",
        "worker.name": settings.worker.name if fleet.workers == 1 else f"node-{number}",
        "worker.data": str(folder.private("worker" if number == 1 else f"worker-{number}")),
        "worker.cpu": str(fleet.cpu),
        "worker.memory": str(fleet.memory),
        "worker.drivers": ",".join([*drivers, "process"] if fleet.processes else drivers),
        "worker.allow_process": str(fleet.processes).lower(),
        "worker.on_exit": "stop",
        "worker.stop_within_s": str(_WORKER_STOP_S - 0.5),
    }


def _names(kind: str, count: int) -> list[str]:
    return [kind] if count == 1 else [f"{kind}-{n}" for n in range(1, count + 1)]


def _env(config: Path | None, own: Mapping[str, str]) -> dict[str, str]:
    """This process's variables under the role's own; the ledger's address only where the role was given it."""
    env = {name: value for name, value in os.environ.items() if name != variable("database.url")}
    if config is not None:
        env["WINDLASS_CONFIG"] = str(config.absolute())
    return env | {variable(key): value for key, value in own.items()}
