"""What a job's container may do: from a ticket to the Engine's create body, by the operator's profile.

`standard` keeps ordinary public images working and takes away what they do not need; `restricted` is for work nobody
vouches for. The choice is the operator's: nothing in a job's spec loosens it.
"""

import os
import stat
from enum import StrEnum
from typing import Any

from windlass.core.spec import JobSpec, Volume
from windlass.core.states import Cause
from windlass.driver.base import DriverFault, Ticket, environment

CLUSTER, NODE, JOB = "windlass.cluster", "windlass.node", "windlass.job"
ATTEMPT, FENCE, NUMBER = "windlass.attempt", "windlass.fence", "windlass.number"

KEPT_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
NOBODY = "65534:65534"
_OPEN_FILES = 16_384  # an engine refuses every start that asks for more than it has itself
TMP_SIZE = "64m"
# Few large files: where the engine turns to a new one, a reader that lags may miss some of the middle (20.10 at least).
# The log store keeps far less than one of them. Compression would cost the job's cores.
_LOG_OPTIONS = {"max-size": "256m", "max-file": "2", "compress": "false"}
_SOCKETS = ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")


class Profile(StrEnum):
    STANDARD = "standard"
    RESTRICTED = "restricted"


def container_body(
    ticket: Ticket,
    *,
    labels: dict[str, str],
    profile: Profile,
    binds: list[dict[str, Any]],
    image_user: str = "",
    restricted_network: bool = False,
) -> dict[str, Any]:
    """The body of POST /containers/create. `image_user` is the image's own USER; only `restricted` looks at it."""
    spec = ticket.spec
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in environment(ticket).items()],
        "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},  # a job is no service: an image's probe would only cost and confuse
        "HostConfig": _host_config(spec) | {"Mounts": binds},
    }
    if spec.command is not None:
        body["Entrypoint"] = list(spec.command)
        body["Cmd"] = list(spec.args or ())
    elif spec.args is not None:
        body["Cmd"] = list(spec.args)
    if spec.workdir is not None:
        body["WorkingDir"] = spec.workdir
    if spec.user is not None:
        body["User"] = spec.user
    if profile is Profile.RESTRICTED:
        body["User"] = unprivileged(spec.user, image_user)
        body["HostConfig"] |= {
            "CapAdd": [],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,mode=1777,size={TMP_SIZE}"},
        }
        if not restricted_network:
            body["HostConfig"]["NetworkMode"] = "none"
    return body


def _host_config(spec: JobSpec) -> dict[str, Any]:
    needs = spec.resources
    limit = needs.memory_max or needs.memory
    config: dict[str, Any] = {
        "AutoRemove": False,  # the exit code must outlive the container until it is on the worker's disk
        "CapAdd": KEPT_CAPABILITIES,
        "CapDrop": ["ALL"],
        "CgroupnsMode": "private",
        "Init": True,
        "IpcMode": "private",
        # `local`, not json-file: it keeps bytes as they are, where json-file replaces what is not UTF-8.
        "LogConfig": {"Type": "local", "Config": _LOG_OPTIONS},
        "Memory": limit,
        "MemorySwap": limit,
        "NanoCpus": max(round(needs.cpu * 1e9), 10_000_000),  # the engine's least is 0.01
        "NetworkMode": spec.network,
        "PidsLimit": needs.pids,
        "Privileged": False,
        "RestartPolicy": {"Name": "no"},
        "SecurityOpt": ["no-new-privileges"],
        "Ulimits": [{"Name": "nofile", "Soft": _OPEN_FILES, "Hard": _OPEN_FILES}],
    }
    if needs.memory_max is not None:
        config["MemoryReservation"] = needs.memory
    if needs.shm_size is not None:
        config["ShmSize"] = needs.shm_size
    return config


def ownership(ticket: Ticket, cluster: str, node_id: str) -> dict[str, str]:
    """The labels by which a container is known as ours, and whose."""
    return {
        CLUSTER: cluster,
        NODE: node_id,
        JOB: ticket.job_id,
        ATTEMPT: ticket.attempt_id,
        FENCE: str(ticket.fence),
        NUMBER: str(ticket.number),
    }


def unprivileged(asked: str | None, image_user: str) -> str:
    """A numeric user that is not root. A name proves nothing: the image decides which number it has."""
    if asked is None:
        return image_user if is_unprivileged(image_user) else NOBODY
    user = asked if ":" in asked else f"{asked}:{asked}"
    if not is_unprivileged(user):
        raise DriverFault(
            Cause.START_FAILED,
            f"user {asked!r} is refused: this node's profile is restricted and needs a numeric user and group"
            " other than 0, such as 1000:1000",
        )
    return user


def is_unprivileged(user: str) -> bool:
    parts = user.split(":")
    return all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts)


def bind_mounts(
    volumes: tuple[Volume, ...], allowed: tuple[str, ...], sockets: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """The spec's volumes as bind mounts of real paths. Raises DriverFault(START_FAILED) for one that may not be.

    Each source is resolved through every symlink before it is compared with the operator's allow-list, and the resolved
    path is what gets mounted. Engine sockets (`sockets` and the usual ones) are never shown, nor a folder that holds
    one. A path on the list must not have parents that jobs can write to.
    """
    return [
        {
            "Type": "bind",
            "Source": _allowed_source(volume.source, allowed, sockets + _SOCKETS),
            "Target": volume.target,
            "ReadOnly": volume.read_only,
            "BindOptions": {"Propagation": "rprivate"},
        }
        for volume in volumes
    ]


def _allowed_source(source: str, allowed: tuple[str, ...], sockets: tuple[str, ...]) -> str:
    try:
        real = os.path.realpath(source, strict=True)
        mode = os.stat(real).st_mode
    except OSError as fault:
        raise _volume_fault(source, f"cannot be read on this node: {fault.strerror}") from fault
    if not any(_inside(real, os.path.realpath(root)) for root in allowed):
        listed = ", ".join(allowed) or "empty"
        raise _volume_fault(source, f"is not in the folders this node's operator allows ({listed})")
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise _volume_fault(source, "is neither a folder nor a plain file")
    if any(_inside(os.path.realpath(socket), real) for socket in sockets if os.path.lexists(socket)):
        raise _volume_fault(source, "holds the container engine's socket, which no job may reach")
    return real


def _inside(path: str, root: str) -> bool:
    return os.path.commonpath([path, root]) == root


def _volume_fault(source: str, why: str) -> DriverFault:
    return DriverFault(Cause.START_FAILED, f"volume {source!r} {why}")
