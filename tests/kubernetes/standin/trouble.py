"""What Kubernetes and people do to Pods: evictions, preemption, a node that goes silent, `kubectl delete`.

The words are those of the kubelet, the scheduler, the taint manager and the Pod garbage collector.
"""

import asyncio
import copy

from tests.kubernetes.standin.server import Cluster

_LOW = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 12Mi."
_SHUTDOWN = "Pod was terminated in response to imminent node shutdown."


def _mark(cluster: Cluster, name: str, why: str, words: str, /, **status: str) -> None:
    pod = copy.deepcopy(cluster.store.get(name))
    condition = {"type": "DisruptionTarget", "status": "True", "reason": why, "message": words}
    others = [one for one in pod["status"].get("conditions", []) if one["type"] != "DisruptionTarget"]
    pod["status"]["conditions"] = [*others, condition]
    pod["status"] |= status
    cluster.store.update(pod)


def press(cluster: Cluster, name: str) -> None:
    """The node lacks memory: its kubelet ends this Pod at once."""
    _end_by_kubelet(cluster, name, "Evicted", _LOW)


def shut_down(cluster: Cluster, name: str) -> None:
    """The node is shut down in order."""
    _end_by_kubelet(cluster, name, "Terminated", _SHUTDOWN)


def _end_by_kubelet(cluster: Cluster, name: str, reason: str, message: str) -> None:
    async def end() -> None:
        _mark(cluster, name, "TerminationByKubelet", message, reason=reason, message=message)
        await cluster.kubelet.pods[name].container.kill(signal="SIGKILL")

    cluster.run(end())


def drain(cluster: Cluster, name: str) -> None:
    """`kubectl drain`: the eviction API."""
    _delete_for(cluster, name, "EvictionByEvictionAPI", "Eviction API: evicting")


def preempt(cluster: Cluster, name: str) -> None:
    """A Pod of higher priority takes its place."""
    _delete_for(
        cluster, name, "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority"
    )


def give_up(cluster: Cluster, name: str) -> None:
    """The Pod has borne its silent node for as long as it tolerates that."""
    _delete_for(cluster, name, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")


def _delete_for(cluster: Cluster, name: str, reason: str, message: str) -> None:
    async def end() -> None:
        _mark(cluster, name, reason, message)
        await cluster.delete(name, cluster.store.get(name)["spec"]["terminationGracePeriodSeconds"])

    cluster.run(end())


def delete(cluster: Cluster, name: str, grace_s: int = 1) -> None:
    """Somebody with kubectl."""
    cluster.run(cluster.delete(name, grace_s))


def silence(cluster: Cluster, silent: bool = True) -> None:
    """The node says nothing more, or speaks again."""

    async def switch() -> None:
        bell: asyncio.Event = cluster.kubelet.audible
        bell.clear() if silent else bell.set()

    cluster.run(switch())


def collect(cluster: Cluster, name: str) -> None:
    """The silent node was removed from the cluster, and its Pods with it."""

    async def end() -> None:
        _mark(cluster, name, "DeletionByPodGC", "PodGC: node no longer exists", phase="Failed")
        cluster.store.delete(name)

    cluster.run(end())
