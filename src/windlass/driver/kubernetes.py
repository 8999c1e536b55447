"""The Kubernetes driver: one Pod per attempt in one namespace, named by the attempt's id.

Calls per attempt, when all goes well: post it behind a gate, take the gate away, read its log, delete it. What becomes
of it is told by one shared watch (kubernetes_watch). Whatever Kubernetes does to a Pod (eviction, preemption, a lost
node, a deletion by someone else) raises DriverFault(NODE_LOST), so that the job's own retries are not charged; while
the API server is away, `wait` and `logs` wait for it, since its Pods run on.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

import structlog

from windlass.core.ids import AttemptId
from windlass.core.placement.snapshot import Room
from windlass.core.states import Cause
from windlass.driver.base import AnswerLost, Chunk, DriverFault, EngineUnavailable, Facts, Outcome, Survivor, Ticket
from windlass.driver.docker_calls import unbroken
from windlass.driver.docker_profile import ATTEMPT, CLUSTER, FENCE, JOB, NODE, NUMBER, Profile
from windlass.driver.kubernetes_access import Access
from windlass.driver.kubernetes_api import Api, ApiRefusal, equal, pod
from windlass.driver.kubernetes_output import Output
from windlass.driver.kubernetes_pod import pod_body, pod_name
from windlass.driver.kubernetes_quota import Offer, QuotaList
from windlass.driver.kubernetes_status import Pod, outcome_of, start_fault, why_pending
from windlass.driver.kubernetes_watch import PodList, Pods, Seen

log = structlog.get_logger("worker")

#: Seconds beyond its grace that a Pod on its way out gets, before its node counts as lost.
LOST_S = 15.0
_OPEN_GATE = {"spec": {"schedulingGates": None}}
_RETRY_S = 0.5
_MERGE = "application/merge-patch+json"
_FULL_OR_NOT_ALLOWED = ("exceeded quota", "cannot create resource", "is being terminated")


class KubernetesDriver:
    """Runs attempts as Pods of one namespace (Kubernetes 1.30 or later). `room` is offered where no quota says more."""

    name = "kubernetes"
    keeps_outcome = True
    watched = False

    def __init__(
        self,
        access: Access,
        *,
        cluster: str,
        node_id: str,
        profile: Profile = Profile.STANDARD,
        restricted_network: bool = False,
        room: Room,
    ) -> None:
        self._cluster, self._node_id, self._profile = cluster, node_id, profile
        self._restricted_network, self._room = restricted_network, room
        self._api = Api(access)
        self._pods = Pods(self._api, equal({CLUSTER: cluster, NODE: node_id}))
        self._offer = Offer()
        self._output = Output(self._api, self._pods)
        self._stopped: set[str] = set()  # asked to stop by this process

    async def open(self) -> None:
        """See that the server answers, and follow our Pods. Raises EngineUnavailable."""
        self._output.version = (await self._version())[1]
        self._pods.open()

    async def close(self) -> None:
        """Let go of connections; Pods go on."""
        await self._pods.close()
        await self._api.close()

    async def facts(self) -> Facts:
        """Whether the server answers and lets us look, its version, and the room its quotas leave."""
        try:
            git, _ = await self._version()
            quotas = await self._api.call("GET", "/resourcequotas", QuotaList)
            ours = await self._pods.listed()
        except EngineUnavailable as away:
            return Facts(available=False, detail=str(away))
        except (ApiRefusal, ValueError) as refusal:
            return Facts(available=False, detail=f"namespace {self._api.access.namespace}: {refusal}")
        room = self._offer.room(quotas.items, ours.items, self._room)
        return Facts(available=True, versions={"kubernetes": git}, capacity=room)

    def never_started(self, attempt_id: AttemptId, launched_at: float) -> bool:
        """A missing Pod may have run and been removed by someone."""
        return False

    async def prepare(self, ticket: Ticket) -> None:
        """Post the Pod, behind its gate. Its image comes once it has a node: see `start`."""
        body = pod_body(
            ticket,
            cluster=self._cluster,
            node_id=self._node_id,
            profile=self._profile,
            restricted_network=self._restricted_network,
        )
        try:
            await self._end_older(ticket)
            await unbroken(self._post(body))
        except ApiRefusal as refusal:
            if refusal.reason == "AlreadyExists":  # the name is the attempt's: an earlier prepare made it
                return
            if any(sign in refusal.message for sign in _FULL_OR_NOT_ALLOWED):
                raise EngineUnavailable(f"Kubernetes takes no Pod now: {refusal.message}") from refusal
            raise DriverFault(Cause.START_FAILED, f"Kubernetes refuses the Pod: {refusal.message}") from refusal

    async def _end_older(self, ticket: Ticket) -> None:
        """What a lost worker left running of the attempts before this one: nobody else would end it."""
        if ticket.number == 1:
            return
        selector = {"labelSelector": equal({CLUSTER: self._cluster, JOB: ticket.job_id})}
        for one in (await self._api.call("GET", "/pods", PodList, params=selector)).items:
            number = one.metadata.labels.get(NUMBER, "")
            if number.isdecimal() and int(number) < ticket.number and not (one.over or one.deleting):
                log.info("older_attempt_ended", pod=one.metadata.name)
                await self._delete(one.metadata.name, 1)

    async def _post(self, body: object) -> None:
        self._pods.expect(await self._api.call("POST", "/pods", Pod, body=body))

    async def start(self, ticket: Ticket) -> None:
        """Open the gate, once in its life, and wait until it runs: only now it gets a node, and its image."""
        seen = await self._seen(ticket.attempt_id)
        limit_s = ticket.spec.start_timeout
        try:
            async with asyncio.timeout(limit_s):
                await self._open_gate(seen)
                there = await self._pods.until(seen, _begun)
        except TimeoutError:
            why = f"start_timeout of {limit_s:g} s passed: {why_pending(seen.pod)}"
            raise DriverFault(Cause.TIMEOUT, why) from None
        if fault := start_fault(seen.pod):
            raise DriverFault(fault.cause, f"image {ticket.spec.image!r}: {fault.message}")
        if not there:
            raise DriverFault(Cause.NODE_LOST, f"Pod {seen.pod.metadata.name} was deleted before it ran")

    async def _open_gate(self, seen: Seen) -> None:
        """Until the server has said yes: once an answer is lost it may be open, so there is no way back."""
        name, lost = seen.pod.metadata.name, False
        while seen.pod.gated and not seen.gone:
            try:
                opened = await self._api.call("PATCH", pod(name), Pod, body=_OPEN_GATE, content_type=_MERGE)
            except ApiRefusal as refusal:
                cause = Cause.NODE_LOST if refusal.status == 404 else Cause.START_FAILED
                raise DriverFault(cause, f"Kubernetes refuses to start {name}: {refusal.message}") from refusal
            except EngineUnavailable as away:
                lost = lost or isinstance(away, AnswerLost)
                if not lost:
                    raise
                await asyncio.sleep(_RETRY_S)
            else:
                seen.pod = opened if seen.pod.gated else seen.pod

    async def wait(self, ticket: Ticket) -> Outcome:
        """How it ended. Raises DriverFault(NODE_LOST) for what Kubernetes ended, lost, or never started."""
        seen = await self._seen(ticket.attempt_id, patient=True)
        name = seen.pod.metadata.name
        if seen.pod.gated and not seen.gone:
            self._pods.forget(name)  # a later look begins anew
            raise DriverFault(Cause.NODE_LOST, f"Pod {name} was created and never started")
        await self._pods.until(seen, lambda now: now.over or now.deleting)
        if not (seen.pod.over or seen.gone):
            await self._ended_or_lost(ticket, seen)
        if not seen.pod.over and name not in self._stopped:
            raise self._gone(ticket.attempt_id)
        return outcome_of(seen.pod, stopped=name in self._stopped)

    async def _ended_or_lost(self, ticket: Ticket, seen: Seen) -> None:
        """A Pod on its way out is told to be gone by its node. One that says nothing may still run it: that is bounded
        by its tolerations and told here as lost, but never for an `exclusive` job."""
        grace_s = seen.pod.metadata.deletion_grace_period_seconds or 0
        patience_s = None if ticket.spec.exclusive else grace_s + LOST_S
        try:
            async with asyncio.timeout(patience_s):
                await self._pods.until(seen, lambda now: now.over)
        except TimeoutError:
            why = seen.pod.disruption or "it was to be deleted"
            raise DriverFault(Cause.NODE_LOST, f"the Pod's node does not say that it has ended ({why})") from None

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after grace_s, rounded up to whole seconds, at least one."""
        name = pod_name(ticket.attempt_id)
        self._stopped.add(name)
        try:
            seen = await self._seen(ticket.attempt_id)
            if seen.pod.over or seen.gone:
                return
            await self._delete(name, max(1, -int(-grace_s // 1)))
        except DriverFault:
            return  # it is gone
        except ApiRefusal as refusal:
            raise EngineUnavailable(f"cannot stop {name}: {refusal.message}") from refusal

    def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """Output past `after`, live. Goes on over dropped streams; memory stays bounded however fast the job prints."""
        return self._output.read(ticket, after)

    async def remove(self, ticket: Ticket) -> None:
        """Delete the Pod. One that should run has a second to end: without it nobody would see that it has."""
        name = pod_name(ticket.attempt_id)
        seen = self._pods.seen(name)
        unseen_end = seen is not None and not (seen.pod.over or seen.pod.gated or seen.pod.deleting)
        self._stopped.discard(name)
        self._pods.forget(name)
        try:
            await self._delete(name, 1 if unseen_end else 0)
        except ApiRefusal as refusal:
            raise EngineUnavailable(f"cannot remove {name}: {refusal.message}") from refusal

    async def survivors(self) -> list[Survivor]:
        """Every Pod with this cluster's and node's labels."""
        return [
            Survivor(AttemptId(labels[ATTEMPT]), int(labels[FENCE]), not (one.over or one.gated))
            for one in (await self._pods.listed()).items
            if ATTEMPT in (labels := one.metadata.labels) and labels.get(FENCE, "").isdecimal()
        ]

    async def _delete(self, name: str, grace_s: int) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace_s}
        try:
            await self._api.call("DELETE", pod(name), body=body)
        except ApiRefusal as refusal:
            if refusal.status != 404:
                raise

    async def _seen(self, attempt_id: AttemptId, *, patient: bool = False) -> Seen:
        """What is known of its Pod, looked up where it is not followed yet. Raises DriverFault(NODE_LOST) when it is
        gone, EngineUnavailable; `patient` waits for the server instead of the latter."""
        name = pod_name(attempt_id)
        while (seen := self._pods.seen(name)) is None:
            try:
                self._pods.expect(await self._api.call("GET", pod(name), Pod))
            except ApiRefusal as refusal:
                if refusal.status == 404:
                    raise self._gone(attempt_id) from refusal
                raise EngineUnavailable(f"cannot look at {name}: {refusal.message}") from refusal
            except EngineUnavailable:
                if not patient:
                    raise
                await asyncio.sleep(_RETRY_S)
        return seen

    def _gone(self, attempt_id: AttemptId) -> DriverFault:
        return DriverFault(Cause.NODE_LOST, f"Pod {pod_name(attempt_id)} is gone: deleted by someone else")

    async def _version(self) -> tuple[str, tuple[int, int]]:
        try:
            version = await self._api.version()
        except ApiRefusal as refusal:
            raise EngineUnavailable(f"the Kubernetes API server refuses: {refusal.message}") from refusal
        return version.git, version.numbers


def _begun(pod: Pod) -> bool:
    return pod.over or pod.state.running is not None or start_fault(pod) is not None
