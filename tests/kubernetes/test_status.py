"""What the end of a Pod means: the job's own doing, or Kubernetes'."""

from typing import Any

import msgspec
import pytest

from windlass.core.states import Cause
from windlass.driver.base import DriverFault
from windlass.driver.kubernetes_status import Pod, outcome_of, start_fault, why_pending

EVICTED = {"reason": "Evicted", "message": "The node was low on resource: memory."}


def a_pod(state: dict[str, Any] | None = None, deleted: bool = False, **status: Any) -> Pod:
    container = {"name": "job", "image": "a", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    metadata = {"name": "at-1"} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})
    body = {"metadata": metadata, "status": status | ({"containerStatuses": [container]} if state else {})}
    return msgspec.convert(body, Pod)


def ended(code: int, word: str = "Error", words: str = "", /, **more: Any) -> Pod:
    return a_pod({"terminated": {"exitCode": code, "reason": word, "message": words}}, **more)


def targeted(reason: str) -> list[dict[str, str]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "words of Kubernetes"}]


@pytest.mark.parametrize(
    ("pod", "code", "cause"),
    [
        (ended(0, "Completed"), 0, None),
        (ended(3), 3, Cause.EXIT_CODE),
        (ended(127), 127, Cause.EXIT_CODE),
        (ended(143), 143, Cause.SIGNAL),
        (ended(137), 137, Cause.SIGNAL),
        (ended(137, "OOMKilled"), 137, Cause.OOM),
        (ended(1, "OOMKilled"), 1, Cause.OOM),  # a child was killed, and the command failed of it
        (
            ended(128, "StartError", 'exec: "/no": stat /no: no such file or directory: unknown'),
            128,
            Cause.START_FAILED,
        ),
        (ended(128, "ContainerCannotRun", "no words"), 128, Cause.START_FAILED),
        (ended(0, "Completed", deleted=True), 0, None),  # it ended well before anyone deleted it
        (ended(0, "Completed", conditions=targeted("EvictionByEvictionAPI")), 0, None),
    ],
)
def test_what_a_job_did_itself(pod: Pod, code: int, cause: Cause | None):
    outcome = outcome_of(pod, stopped=False)
    assert (outcome.exit_code, outcome.cause) == (code, cause)
    assert outcome.message or cause is None


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (ended(137, phase="Failed", **EVICTED), "Evicted: The node was low on resource"),
        (ended(137, "OOMKilled", phase="Failed", **EVICTED), "Evicted"),
        (a_pod(phase="Failed", **EVICTED), "Evicted"),
        (a_pod(phase="Failed", reason="Preempting", message="for a critical Pod"), "Preempting: for a critical Pod"),
        (a_pod(phase="Failed", reason="NodeAffinity", message="Pod was rejected"), "NodeAffinity"),
        (a_pod(phase="Failed", reason="UnexpectedAdmissionError", message="no device"), "UnexpectedAdmissionError"),
        (a_pod(phase="Failed", reason="Terminated", message="imminent node shutdown"), "imminent node shutdown"),
        (ended(143, conditions=targeted("EvictionByEvictionAPI"), deleted=True), "EvictionByEvictionAPI"),
        (ended(143, conditions=targeted("PreemptionByScheduler"), deleted=True), "PreemptionByScheduler"),
        (ended(137, conditions=targeted("DeletionByTaintManager"), deleted=True), "DeletionByTaintManager"),
        (a_pod(phase="Failed", conditions=targeted("DeletionByPodGC")), "DeletionByPodGC"),
        (ended(137, "ContainerStatusUnknown"), "does not know it any more"),
        (ended(255, "Unknown"), "does not know it any more"),  # containerd's word after its node's reboot
        (ended(143, deleted=True), "deleted by someone else"),
        (a_pod(phase="Failed"), "lost"),
    ],
)
def test_what_kubernetes_did_is_infrastructure(pod: Pod, words: str):
    with pytest.raises(DriverFault, match=words) as fault:
        outcome_of(pod, stopped=False)
    assert fault.value.cause is Cause.NODE_LOST


def test_what_we_stopped_is_not_blamed_on_kubernetes():
    assert outcome_of(ended(143, deleted=True), stopped=True).exit_code == 143
    assert outcome_of(a_pod(deleted=True), stopped=True).cause is Cause.SIGNAL


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_does_not_come(reason: str):
    fault = start_fault(a_pod({"waiting": {"reason": reason, "message": "not found"}}))
    assert fault is not None
    assert (fault.cause, fault.message) == (Cause.IMAGE_PULL, "cannot pull the image: not found")


def test_a_container_that_cannot_be_made():
    fault = start_fault(a_pod({"waiting": {"reason": "CreateContainerConfigError", "message": "would be root"}}))
    assert fault is not None
    assert fault.cause is Cause.START_FAILED
    assert "would be root" in fault.message


def test_one_that_still_may_start_is_no_fault():
    assert start_fault(a_pod({"waiting": {"reason": "ContainerCreating"}})) is None
    assert start_fault(a_pod()) is None


def test_why_it_waits_is_told_in_kubernetes_words():
    words = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
    assert why_pending(a_pod(conditions=[words])) == "no node takes it: 0/3 nodes are available"
    assert why_pending(a_pod({"waiting": {"reason": "ContainerCreating", "message": ""}})) == "ContainerCreating: "
    assert why_pending(a_pod()) == "it is Pending"
