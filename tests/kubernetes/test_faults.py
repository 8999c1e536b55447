"""The driver over a stand-in cluster that misbehaves: what Kubernetes does to a Pod is never the job's fault."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.driver.conftest import KubernetesStage
from tests.driver.play import follow, opened, read, run
from tests.kubernetes.standin import trouble
from tests.kubernetes.standin.server import Cluster
from tests.support import wait_until
from windlass.core.states import Cause
from windlass.driver import kubernetes, kubernetes_output
from windlass.driver.base import Driver, DriverFault, EngineUnavailable, Ticket
from windlass.driver.docker_profile import Profile
from windlass.driver.kubernetes_access import Access, Token
from windlass.driver.kubernetes_logs import MISSING
from windlass.driver.kubernetes_pod import pod_name

pytestmark = [pytest.mark.docker]


async def begun(stage: KubernetesStage, driver: Driver, script: str = "sleep 60", **fields: object) -> Ticket:
    """An attempt that runs."""
    ticket = stage.ticket(replace(stage.shell(script), **fields))
    await driver.prepare(ticket)
    await driver.start(ticket)
    return ticket


async def lost(driver: Driver, ticket: Ticket, within_s: float = 20) -> str:
    """The words with which it is told to be lost to the infrastructure."""
    with pytest.raises(DriverFault) as fault:
        await asyncio.wait_for(driver.wait(ticket), within_s)
    assert fault.value.cause is Cause.NODE_LOST
    return fault.value.message


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (trouble.press, "The node was low on resource: memory"),
        (trouble.shut_down, "imminent node shutdown"),
        (trouble.drain, "EvictionByEvictionAPI"),
        (trouble.preempt, "PreemptionByScheduler"),
        (trouble.delete, "deleted by someone else"),
    ],
)
async def test_what_kubernetes_ends_is_infrastructure(
    stage: KubernetesStage, does: Callable[[Cluster, str], None], words: str
):
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, stop_grace=2)
        await asyncio.to_thread(does, stage.kubernetes, pod_name(ticket.attempt_id))
        assert words in await lost(driver, ticket)
        await driver.remove(ticket)
        assert await driver.survivors() == []


async def test_a_job_that_ends_well_in_its_grace_has_succeeded(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, "trap 'exit 0' TERM; echo up; sleep 60 & wait")
        output = aiter(driver.logs(ticket, {}))
        assert (await anext(output)).data == b"up\n"
        await asyncio.to_thread(trouble.drain, stage.kubernetes, pod_name(ticket.attempt_id))
        assert (await asyncio.wait_for(driver.wait(ticket), 20)).exit_code == 0
        await output.aclose()


async def test_a_silent_node_is_lost_once_its_pods_are_given_up(
    stage: KubernetesStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kubernetes, "LOST_S", 0.5)
    monkeypatch.setattr(kubernetes_output, "SILENT_S", 0.5)
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, "echo up; sleep 60", stop_grace=1)
        waiting = asyncio.create_task(lost(driver, ticket))
        output = aiter(driver.logs(ticket, {}))
        assert (await anext(output)).data == b"up\n"
        trouble.silence(stage.kubernetes)
        done, _ = await asyncio.wait([waiting], timeout=1)
        assert not done  # a node that only says nothing is waited for: Kubernetes decides
        await asyncio.to_thread(trouble.give_up, stage.kubernetes, pod_name(ticket.attempt_id))
        assert "DeletionByTaintManager" in await waiting
        async with asyncio.timeout(15):  # and its readers do not hang for ever
            assert {chunk.data async for chunk in output} == {MISSING}


async def test_an_exclusive_job_on_a_silent_node_waits_for_proof(
    stage: KubernetesStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kubernetes, "LOST_S", 0.1)
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, stop_grace=1, exclusive=True)
        waiting = asyncio.create_task(lost(driver, ticket, 30))
        trouble.silence(stage.kubernetes)
        name = pod_name(ticket.attempt_id)
        await asyncio.to_thread(trouble.give_up, stage.kubernetes, name)
        done, _ = await asyncio.wait([waiting], timeout=2)
        assert not done
        await asyncio.to_thread(trouble.collect, stage.kubernetes, name)
        assert "DeletionByPodGC" in await waiting


async def test_a_node_that_speaks_again_tells_how_it_ended(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, "sleep 0.5; exit 9")
        trouble.silence(stage.kubernetes)
        done, _ = await asyncio.wait([asyncio.create_task(driver.wait(ticket))], timeout=1.5)
        assert not done
        trouble.silence(stage.kubernetes, False)
        assert (await asyncio.wait_for(driver.wait(ticket), 20)).exit_code == 9


async def test_too_little_memory_is_an_oom(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, "head -c 200m /dev/zero | tail")
        outcome = await asyncio.wait_for(driver.wait(ticket), 20)
        assert (outcome.exit_code, outcome.cause) == (137, Cause.OOM)


async def test_an_api_server_that_is_away_loses_nothing(stage: KubernetesStage):
    script = "for n in $(seq 40); do echo line $n; sleep 0.05; done; exit 6"
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, script)
        waiting = asyncio.create_task(driver.wait(ticket))
        got, at, name = b"", dict[str, int](), pod_name(ticket.attempt_id)
        async for chunk in driver.logs(ticket, {}):
            follow(chunk, at)
            got += chunk.data
            if b"line 10\n" in got and stage.kubernetes.serving:
                await asyncio.to_thread(stage.kubernetes.go_away)
                assert not (await driver.facts()).available
                with pytest.raises(EngineUnavailable):
                    await driver.prepare(stage.ticket(stage.exits(0)))
                await wait_until(lambda: stage.kubernetes.kubelet.pods[name].log.closed, "it ends meanwhile")
                await asyncio.to_thread(stage.kubernetes.serve)
        assert got == b"".join(b"line %d\n" % n for n in range(1, 41))
        assert (await asyncio.wait_for(waiting, 20)).exit_code == 6


async def test_a_watch_whose_history_is_over_begins_anew(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, "sleep 1; exit 8")
        stage.kubernetes.run(_compacted(stage.kubernetes))
        assert (await asyncio.wait_for(driver.wait(ticket), 20)).exit_code == 8


async def _compacted(cluster: Cluster) -> None:
    cluster.store.compact()


async def test_a_full_quota_is_no_fault_of_the_job(stage: KubernetesStage):
    stage.kubernetes.quotas["jobs"] = {"pods": "1", "requests.cpu": "2", "limits.memory": "256Mi"}
    async with opened(stage.driver()) as driver:
        room = (await driver.facts()).capacity
        assert room is not None
        assert (room.millis, room.memory) == (2000, 256 * 2**20)
        ticket = await begun(stage, driver)
        assert (await driver.facts()).capacity == room  # our own Pods are counted by the ledger
        with pytest.raises(EngineUnavailable, match="exceeded quota: jobs"):
            await driver.prepare(stage.ticket(stage.exits(0)))
        await driver.remove(ticket)


async def test_no_room_on_any_node_is_a_start_that_takes_too_long(stage: KubernetesStage):
    stage.kubernetes.full = True
    async with opened(stage.driver()) as driver:
        with pytest.raises(DriverFault, match="no node takes it: 0/1 nodes are available: 1 Insufficient cpu") as fault:
            await begun(stage, driver, start_timeout=0.5)
        assert fault.value.cause is Cause.TIMEOUT


async def test_a_start_may_be_stopped_while_no_node_takes_it(stage: KubernetesStage):
    stage.kubernetes.full = True
    async with opened(stage.driver()) as driver:
        ticket = stage.ticket(stage.sleeps(60))
        await driver.prepare(ticket)
        starting = asyncio.create_task(driver.start(ticket))
        await wait_until(lambda: any("PATCH" in one for one in stage.kubernetes.asked), "its gate is open")
        await driver.stop(ticket, 5)
        with pytest.raises(DriverFault) as fault:
            await asyncio.wait_for(starting, 10)
        assert fault.value.cause is Cause.NODE_LOST


async def test_an_expired_token_waits_for_a_fresh_one(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        stage.kubernetes.token = "renewed"
        facts = await driver.facts()
        assert (facts.available, "401" in facts.detail) == (False, True)
        with pytest.raises(EngineUnavailable):
            await driver.prepare(stage.ticket(stage.exits(0)))


async def test_an_older_attempt_that_a_lost_worker_left_is_ended_first(stage: KubernetesStage):
    async with opened(stage.driver()) as lost_worker:
        old = await begun(stage, lost_worker)
        neighbour = await begun(stage, lost_worker)
    async with opened(stage.driver()) as driver:
        again = replace(stage.ticket(stage.exits(0), number=2), job_id=old.job_id)
        outcome = await run(stage, driver, again)
        assert outcome.exit_code == 0

        def running() -> set[str]:
            pods = stage.kubernetes.kubelet.pods.items()
            return {name for name, one in pods if not one.log.closed}

        await wait_until(lambda: running() == {pod_name(neighbour.attempt_id)}, "the older one has ended")


@pytest.mark.parametrize("stage", [{"split_streams": False}, {"minor": "31"}], indirect=True, ids=["gate", "old"])
async def test_where_kubernetes_does_not_split_streams_all_is_stdout(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        ticket = await begun(
            stage, driver, "for n in 1 2 3; do echo out $n; sleep 0.05; echo err $n >&2; sleep 0.05; done"
        )
        await driver.wait(ticket)
        both = b"".join(b"out %d\nerr %d\n" % (n, n) for n in (1, 2, 3))
        assert await read(driver, ticket) == {"stdout": both, "stderr": b""}
        assert await read(driver, ticket, {"stdout": 7}) == {"stdout": both[7:], "stderr": b""}


async def test_a_log_that_was_turned_says_that_something_is_missing(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver, "seq 60000; sleep 1.5; echo missed; sleep 1.5; echo last")
        at: dict[str, int] = {}
        read_first = b"".join(b"%d\n" % n for n in range(1, 60001))
        output = aiter(driver.logs(ticket, {}))
        while at.get("stdout", 0) < len(read_first):
            follow(await anext(output), at)
        await output.aclose()
        await asyncio.wait_for(driver.wait(ticket), 20)
        log = stage.kubernetes.kubelet.pods[pod_name(ticket.attempt_id)].log
        log.entries[:] = log.entries[-1:]
        assert (await read(driver, ticket, at))["stdout"] == MISSING + b"last\n"


async def test_the_restricted_profile_holds(stage: KubernetesStage):
    async with opened(stage.driver(profile=Profile.RESTRICTED)) as driver:
        script = (
            "id -u; touch /tmp/a && echo tmp; touch /work/a 2>/dev/null || echo closed; grep CapEff /proc/self/status"
        )
        ticket = await begun(stage, driver, script)
        await driver.wait(ticket)
        said = (await read(driver, ticket))["stdout"].decode().split()
        assert said == ["65534", "tmp", "closed", "CapEff:", "0000000000000000"]


async def test_pods_of_others_are_left_alone(stage: KubernetesStage):
    async with opened(stage.driver()) as driver:
        ticket = await begun(stage, driver)
        access = Access(stage.kubernetes.url, stage.kubernetes.namespace, Token(stage.kubernetes.token), None)
        room = (await driver.facts()).capacity
        assert room is not None
        stranger = kubernetes.KubernetesDriver(access, cluster=stage.cluster, node_id="another", room=room)
        async with opened(stranger):
            assert await stranger.survivors() == []
        assert [one.attempt_id for one in await driver.survivors()] == [ticket.attempt_id]
