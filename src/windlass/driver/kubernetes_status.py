"""A Pod as the API server tells of it, and what its end means: an Outcome, or whose fault a missing start is.

Trouble of Kubernetes is told apart from the job's own: a Pod that was evicted, preempted, taken off its node, or lost
with it is NODE_LOST, so that the job's own retries are not charged.
"""

import re

import msgspec

from windlass.core.states import Cause
from windlass.driver.base import DriverFault, Outcome
from windlass.driver.docker_exit import SIGNALS
from windlass.driver.kubernetes_pod import CONTAINER

_PULL = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_START = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreStartHookError"})
_NOT_RUNNABLE = frozenset({"StartError", "ContainerCannotRun"})
_UNKNOWN_ENDS = frozenset({"ContainerStatusUnknown", "Unknown"})  # the kubelet's word; containerd's, after a reboot
_EXEC = re.compile(r'exec: "([^"]+)": ([^\n]+?)(?:: unknown)?$')


class Waiting(msgspec.Struct):
    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, rename="camel"):
    exit_code: int
    reason: str = ""
    message: str = ""


class ContainerState(msgspec.Struct):
    waiting: Waiting | None = None
    running: dict[str, str] | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct):
    name: str
    state: ContainerState = msgspec.field(default_factory=ContainerState)


class Condition(msgspec.Struct):
    type: str
    status: str = ""
    reason: str | None = None
    message: str | None = None


class PodStatus(msgspec.Struct, rename="camel"):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: list[Condition] = msgspec.field(default_factory=list[Condition])
    container_statuses: list[ContainerStatus] = msgspec.field(default_factory=list[ContainerStatus])


class _Resources(msgspec.Struct):
    limits: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    requests: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class _Container(msgspec.Struct):
    resources: _Resources = msgspec.field(default_factory=_Resources)


class _PodSpec(msgspec.Struct, rename="camel"):
    scheduling_gates: list[dict[str, str]] = msgspec.field(default_factory=list[dict[str, str]])
    containers: list[_Container] = msgspec.field(default_factory=list[_Container])


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    resource_version: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Pod(msgspec.Struct):
    """The part of a Pod that matters here."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def gated(self) -> bool:
        """Whether it has never been started."""
        return bool(self.spec.scheduling_gates)

    @property
    def state(self) -> ContainerState:
        """The job's container."""
        statuses = self.status.container_statuses
        return next((one.state for one in statuses if one.name == CONTAINER), ContainerState())

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.state.terminated is not None or self.status.phase in ("Succeeded", "Failed")

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def disruption(self) -> str:
        """What Kubernetes says it did to this Pod, or is about to do; "" when it leaves it alone."""
        for one in self.status.conditions:
            if one.type == "DisruptionTarget" and one.status == "True":
                return f"{one.reason or 'disrupted'}: {one.message or 'no more is told'}"
        if self.status.reason:  # a container that fails by itself leaves this empty
            return f"{self.status.reason}: {self.status.message or 'no more is told'}"
        return ""


def outcome_of(pod: Pod, *, stopped: bool) -> Outcome:
    """How a Pod that is over ended; `stopped` when we asked for it. Raises DriverFault(NODE_LOST)."""
    end = pod.state.terminated
    if end is not None and end.exit_code == 0:
        return Outcome(0, None)
    if not stopped:
        _blame_kubernetes(pod, end)
    if end is None:
        return Outcome(None, Cause.SIGNAL, "stopped; with which exit code Kubernetes does not tell")
    code = end.exit_code
    if end.reason == "OOMKilled":
        return Outcome(code, Cause.OOM, "killed: out of memory (its limit is resources.memory_max, or memory)")
    if end.reason in _NOT_RUNNABLE:
        return Outcome(code, Cause.START_FAILED, _not_runnable(end.message))
    if code in SIGNALS:
        return Outcome(code, Cause.SIGNAL, f"ended by {SIGNALS[code].name}")
    return Outcome(code, Cause.EXIT_CODE, end.message or f"exited with code {code}")


def _blame_kubernetes(pod: Pod, end: Terminated | None) -> None:
    if why := pod.disruption:
        raise DriverFault(Cause.NODE_LOST, f"Kubernetes ended the Pod: {why}")
    if pod.deleting:
        raise DriverFault(Cause.NODE_LOST, "the Pod was deleted by someone else")
    if end is None or end.reason in _UNKNOWN_ENDS:
        raise DriverFault(Cause.NODE_LOST, "the Pod's container is lost: its node does not know it any more")


def _not_runnable(message: str) -> str:
    match = _EXEC.search(message)
    if match is None:
        return f"cannot run the command: {message}"
    command, why = match.groups()
    return f"cannot run {command!r}: {why}; is it in the image, on its PATH and executable?"


def start_fault(pod: Pod) -> DriverFault | None:
    """Why it will not start, as far as the job or its image is to blame; None while there is hope."""
    waiting = pod.state.waiting
    if waiting is None or pod.over:
        return None
    if waiting.reason in _PULL:
        return DriverFault(Cause.IMAGE_PULL, f"cannot pull the image: {waiting.message or waiting.reason}")
    if waiting.reason in _START:
        return DriverFault(Cause.START_FAILED, f"{waiting.reason}: {waiting.message or 'no more is told'}")
    return None


def why_pending(pod: Pod) -> str:
    """Why it does not run yet, in Kubernetes' words."""
    for one in pod.status.conditions:
        if one.type == "PodScheduled" and one.status == "False":
            return f"no node takes it: {one.message or one.reason}"
    waiting = pod.state.waiting
    return f"{waiting.reason}: {waiting.message}" if waiting else f"it is {pod.status.phase}"
