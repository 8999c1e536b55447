"""Reconciliation: whatever is out of step between ledger, streams and nodes is found within seconds, put right, and
counted by name."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import redis

from tests.conftest import Servers
from tests.ports import reserved_port
from tests.support import wait_until
from tests.system.cluster import Cluster, Role
from tests.system.test_outages import all_ran_once
from windlass.crash import VARIABLE
from windlass.stream.keys import FIELD


class Scene:
    """A cluster of one worker, and the leader's page of metrics."""

    def __init__(self, cluster: Cluster, stream: redis.Redis) -> None:
        self.cluster, self.stream, self.port = cluster, stream, reserved_port()
        cluster.api()
        self.scheduler: Role = cluster.scheduler(**{"metrics.port": self.port})
        self.worker: Role = cluster.worker()

    def repairs(self, kind: str) -> float:
        try:
            page = httpx2.get(f"http://127.0.0.1:{self.port}/metrics").text
        except httpx2.TransportError:
            return 0.0
        wanted = f'windlass_repairs_total{{kind="{kind}"}} '
        return next((float(line.split()[-1]) for line in page.splitlines() if line.startswith(wanted)), 0.0)

    async def repaired(self, kind: str) -> None:
        await wait_until(lambda: self.repairs(kind) >= 1, f"a repair of {kind}")

    @property
    def orders(self) -> str:
        return self.cluster.stream_of("n1")


@pytest.fixture
async def scene(cluster: Cluster, servers: Servers) -> AsyncIterator[Scene]:
    with redis.Redis.from_url(servers.valkey_url) as stream:
        made = Scene(cluster, stream)
        await cluster.ready()
        yield made


async def test_a_launch_that_was_lost(scene: Scene) -> None:
    cluster = scene.cluster
    scene.worker.freeze()
    # Its read is at the server already: the first entry is on the worker's side of the wire.
    first = cluster.submit(cluster.spec("first"))
    await wait_until(lambda: scene.stream.xlen(scene.orders) >= 1, "it is sent")
    sent = scene.stream.xlen(scene.orders)
    job_id = cluster.submit(cluster.spec("lost"))
    await wait_until(lambda: scene.stream.xlen(scene.orders) > sent, "it is sent, too")
    scene.stream.xtrim(scene.orders, maxlen=0, approximate=False)
    scene.worker.thaw()
    all_ran_once(cluster, await cluster.over(first, job_id))
    await scene.repaired("missing_launch")


async def test_an_attempt_nobody_ordered(scene: Scene) -> None:
    cluster = scene.cluster
    mark = cluster.folder / "forged"
    spec = cluster.spec("forged", f"echo $$ >'{mark}'; exec sleep 60")
    forged = {"type": "launch", "attempt_id": "att_01m84h7zs6ehdr80hd3b355n33", "fence": 1, "number": 1}
    forged |= {"job_id": "job_01m84h7zs6ehdr80hd3b355n33"}
    needs = {"cpu": 0.1, "memory": 2**25}
    order = forged | {"spec": {"command": spec["command"], "driver": "process", "resources": needs}}
    scene.stream.xadd(scene.orders, {FIELD: httpx2.Request("POST", cluster.url, json=[order]).content})
    pid = int(await wait_until(lambda: mark.exists() and mark.read_text(), "it runs"))
    await scene.repaired("unknown_attempt")
    await wait_until(lambda: not _lives(pid), "it was ended")


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_an_end_whose_report_was_lost(scene: Scene) -> None:
    cluster, leader = scene.cluster, f"{scene.cluster.name}:leader"
    go = cluster.folder / "go"
    job_id = cluster.submit(cluster.spec("untold", f"until test -e '{go}'; do sleep 0.02; done"))
    await cluster.state(job_id, "running")
    scene.scheduler.freeze()
    scene.stream.xadd(leader, {FIELD: b"[]"})  # what its read, which is at the server already, is answered with
    go.touch()

    def reported() -> bool:
        entries = scene.stream.xrange(leader)
        return any(b'"exited"' in fields.get(FIELD, b"") for _, fields in entries)  # pyright: ignore

    await wait_until(reported, "its report is on the stream")
    scene.stream.delete(leader)
    scene.scheduler.thaw()
    all_ran_once(cluster, await cluster.over(job_id))
    await scene.repaired("unreported_end")


async def test_orders_that_were_committed_and_never_sent(scene: Scene) -> None:
    cluster = scene.cluster
    scene.scheduler.kill()
    scene.scheduler.start(**{VARIABLE: "scheduler.committed"})
    job_id = cluster.submit(cluster.spec("stuck"))
    await wait_until(lambda: scene.scheduler.code is not None, "it died between commit and send")
    scene.scheduler.start()
    all_ran_once(cluster, await cluster.over(job_id))
    await scene.repaired("outbox_stuck")
