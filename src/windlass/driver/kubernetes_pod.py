"""What a job's Pod may do: from a ticket to the object that is posted, by the operator's profile.

A Pod is posted with a scheduling gate, so that nothing runs before the driver's `start` takes the gate away. Its
processes share one PID namespace with the Pod's own first process: a job that is process 1 of its namespace would not
hear SIGTERM, and its dead children would stay.
"""

from typing import Any

from windlass.core.ids import AttemptId
from windlass.core.spec import JobSpec
from windlass.core.states import Cause
from windlass.driver.base import DriverFault, Ticket, environment
from windlass.driver.docker_profile import KEPT_CAPABILITIES, TMP_SIZE, Profile, ownership, unprivileged

CONTAINER = "job"
GATE = "windlass.dev/start"
#: For NetworkPolicies: what spec.network asks for, which Kubernetes can't be told in the Pod itself.
NETWORK = "windlass.network"
#: Seconds a Pod stays bound to a node that has gone silent, before Kubernetes gives it up.
TOLERATED_S = 30


def pod_name(attempt_id: AttemptId) -> str:
    """The Pod's name: the attempt's id in the letters Kubernetes allows."""
    return attempt_id.replace("_", "-")


def pod_body(
    ticket: Ticket, *, cluster: str, node_id: str, profile: Profile, restricted_network: bool = False
) -> dict[str, Any]:
    """The object to post. Raises DriverFault(START_FAILED) for a spec that Kubernetes can't honour."""
    spec = ticket.spec
    if spec.volumes:
        raise DriverFault(Cause.START_FAILED, "volumes are folders of a node: the kubernetes driver gives none")
    cut_off = spec.network == "none" or (profile is Profile.RESTRICTED and not restricted_network)
    labels = ownership(ticket, cluster, node_id) | {
        NETWORK: "none" if cut_off else "open",
        "app.kubernetes.io/managed-by": "windlass",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name(ticket.attempt_id), "labels": labels},
        "spec": {
            "schedulingGates": [{"name": GATE}],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "shareProcessNamespace": True,
            "terminationGracePeriodSeconds": max(1, -int(-spec.stop_grace // 1)),
            "tolerations": [_tolerated("not-ready"), _tolerated("unreachable")],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [_container(ticket, profile)],
            "volumes": _memory_volumes(spec, profile),
        },
    }


def _tolerated(trouble: str) -> dict[str, Any]:
    key = f"node.kubernetes.io/{trouble}"
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED_S}


def _container(ticket: Ticket, profile: Profile) -> dict[str, Any]:
    spec, needs = ticket.spec, ticket.spec.resources
    cpu = f"{max(round(needs.cpu * 1000), 1)}m"
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        "env": [{"name": name, "value": _literal(value)} for name, value in environment(ticket).items()],
        "resources": {
            "requests": {"cpu": cpu, "memory": str(needs.memory)},
            "limits": {"cpu": cpu, "memory": str(needs.memory_max or needs.memory)},
        },
        "securityContext": _security(spec, profile),
        "volumeMounts": [
            {"name": volume["name"], "mountPath": _PLACES[volume["name"]]} for volume in _memory_volumes(spec, profile)
        ],
    }
    if spec.command is not None:
        container["command"] = [_literal(word) for word in spec.command]
    if spec.args is not None:
        container["args"] = [_literal(word) for word in spec.args]
    elif spec.command is not None:
        container["args"] = []
    if spec.workdir is not None:
        container["workingDir"] = spec.workdir
    return container


def _literal(text: str) -> str:
    """Kubernetes puts a variable's value for $(NAME), and $ for $$; jobs mean what they write."""
    return text.replace("$", "$$")


_PLACES = {"shm": "/dev/shm", "tmp": "/tmp"}


def _memory_volumes(spec: JobSpec, profile: Profile) -> list[dict[str, Any]]:
    sizes: dict[str, str] = {}
    if spec.resources.shm_size is not None:
        sizes["shm"] = str(spec.resources.shm_size)
    if profile is Profile.RESTRICTED:
        sizes["tmp"] = f"{TMP_SIZE.removesuffix('m')}Mi"
    return [{"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}} for name, size in sizes.items()]


def _security(spec: JobSpec, profile: Profile) -> dict[str, Any]:
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": KEPT_CAPABILITIES},
        "privileged": False,
    }
    user = spec.user
    if profile is Profile.RESTRICTED:
        user = unprivileged(spec.user, "")  # what user the image names can't be seen from here
        context |= {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True, "runAsNonRoot": True}
    if user is not None:
        context |= _numbers(user)
    return context


def _numbers(user: str) -> dict[str, int]:
    parts = user.split(":")
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise DriverFault(
            Cause.START_FAILED, f"user {user!r} is refused: Kubernetes takes numbers only, such as 1000:1000"
        )
    return dict(zip(("runAsUser", "runAsGroup"), map(int, parts), strict=False))
