"""What an operator sees: a real Prometheus over a real cluster under load. Every panel has data, every rule works, no
query names a metric that is not there, and the number of series stays small however many nodes there are."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.conftest import Servers
from tests.house.documents import REFERENCE
from tests.ports import reserved_port
from tests.prometheus import ITS_OWN, Prometheus, choices, names, panels, prometheus, prometheus_missing, ready, rules
from tests.support import HANG_S, wait_until
from tests.system.cluster import Cluster
from tests.system.conftest import _fresh
from windlass.core.ids import NODE, NodeId
from windlass.mint import new_id
from windlass.stream import wire
from windlass.stream.keys import Keys
from windlass.stream.produce import Producer, connect

pytestmark = [
    pytest.mark.skipif(bool(prometheus_missing()), reason=prometheus_missing() or "it is here"),
]
NODES = 100
#: What Prometheus keeps of a target beside what its page says: whether it is up, and how its scrape went.
ITS_OWN_A_TARGET = 5


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Watched:
    """A cluster that works, its pages, and the Prometheus that reads them."""

    cluster: Cluster
    prometheus: Prometheus
    #: ports of the pages by job
    pages: dict[str, list[int]]

    def series(self, job: str) -> list[int]:
        """How many series Prometheus keeps of each target of a job, its own five with them."""
        kept = self.prometheus.ask(f'count by (instance) ({{job="{job}", __name__!~"ALERTS.*|.*:.*"}})')
        return sorted(int(one["value"][1]) for one in kept)


@pytest.fixture(scope="module")
async def watched(servers: Servers, roomy_folder: Path, anyio_backend: str) -> AsyncIterator[Watched]:
    pages = {"windlass-api": 1, "windlass-scheduler": 2, "windlass-worker": 1}
    ports = {job: [reserved_port() for _ in range(count)] for job, count in pages.items()}
    with _fresh(servers, roomy_folder) as cluster:
        api, schedulers, worker = ports["windlass-api"][0], ports["windlass-scheduler"], ports["windlass-worker"][0]
        cluster.api(**{"metrics.port": api})
        for number, port in enumerate(schedulers):
            cluster.scheduler(f"scheduler {number}", **{"metrics.port": port})
        cluster.worker(links={"metrics.port": worker}, cpu=1)
        await cluster.ready()
        await _introduce(cluster)
        with under_load(cluster), prometheus(cluster.folder, ports) as made:
            await ready(made)
            yield Watched(cluster, made, ports)


async def _introduce(cluster: Cluster) -> None:
    """Nodes that only say that they are there, and offer nothing."""
    redis = connect(cluster.redis_url)
    others = [NodeId(new_id(NODE)) for _ in range(NODES - 1)]
    hellos = [wire.Hello(one, f"node-{n}", 4000, 2**33, (), "test") for n, one in enumerate(others)]
    await Producer(redis, Keys(cluster.name)).report(hellos)
    await redis.aclose()
    await wait_until(lambda: len(cluster.nodes()) == NODES, f"{NODES} nodes are known")


@contextmanager
def under_load(cluster: Cluster) -> Iterator[None]:
    """More jobs than fit at a time, some of which print and some of which fail; and readers."""
    over = threading.Event()

    def work() -> None:
        with httpx2.Client(base_url=cluster.url, timeout=HANG_S) as http:
            while not over.wait(0.25):
                plain = {"driver": "process", "resources": {"cpu": 0.25, "memory": "16Mi"}}
                http.post("/v1/jobs", json=plain | {"command": ["sh", "-c", "echo said; sleep 0.4"]})
                http.post("/v1/jobs", json=plain | {"command": ["sh", "-c", "exit 3"], "max_retries": 0})
                if len(http.get("/v1/jobs", params={"state": "queued"}).json()["jobs"]) < 20:
                    http.post("/v1/jobs/batch", json={"jobs": [plain | {"command": ["sleep", "0.3"]}] * 5})

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _answered(made: Prometheus, queries: dict[str, str]) -> None:
    """Each query has had an answer within the time."""
    left = dict(queries)

    def ask() -> bool:
        for name, expr in list(left.items()):
            if made.ask(expr):
                del left[name]
        return not left

    try:
        await wait_until(ask, "answers")
    except AssertionError:
        raise AssertionError(f"no data: {json.dumps(left, indent=1)}") from None


async def test_no_panel_is_empty(watched: Watched):
    queries = dict(panels())
    assert len(queries) > 80
    await _answered(watched.prometheus, queries)


async def test_every_choice_of_a_dashboard_is_filled(watched: Watched):
    offered = list(choices())
    assert [name for name, *_ in offered] == ["nodes: node"]
    for name, metric, label in offered:
        found = watched.prometheus.get(f"label/{label}/values", **{"match[]": metric})
        assert len(found) == NODES, (name, found)


async def test_recording_rules_have_data(watched: Watched):
    await _answered(watched.prometheus, {rule["record"]: rule["record"] for rule in rules("recording")})


async def test_every_rule_is_evaluated_without_error(watched: Watched):
    def looked() -> bool:
        groups = watched.prometheus.get("rules")["groups"]
        states = {rule["name"]: (rule["health"], rule.get("lastError")) for g in groups for rule in g["rules"]}
        assert not [name for name, (health, error) in states.items() if health == "err" or error], states
        return len(states) == len(rules("alerts")) + len(rules("recording")) and {
            health for health, _ in states.values()
        } == {"ok"}

    await wait_until(looked, "every rule was evaluated")


async def test_no_query_names_a_metric_that_is_not_there(watched: Watched):
    named = {name: names(expr) for name, expr in panels()}
    named |= {
        rule.get("alert") or rule["record"]: names(rule["expr"]) for k in ("alerts", "recording") for rule in rules(k)
    }
    assert all(named.values()), named

    def missing() -> dict[str, list[str]]:
        there = watched.prometheus.names() | ITS_OWN
        return {name: sorted(wanted - there) for name, wanted in named.items() if wanted - there}

    await wait_until(lambda: not missing(), "every metric is there")


async def test_few_series_at_a_hundred_nodes(watched: Watched):
    """Of 2 API processes that were asked everything there is to ask, 3 schedulers, 100 workers."""
    paths = json.loads((REFERENCE / "openapi.json").read_text())["paths"]
    async with httpx2.AsyncClient(base_url=watched.cluster.url, timeout=HANG_S) as http:
        asked = [
            http.request(method.upper(), path.replace("{job_id}", "job_x").replace("{", "").replace("}", ""))
            for path, item in paths.items()
            for method in item
            if path != "/v1/events"  # which never ends
        ]
        await asyncio.gather(*asked)
    text = httpx2.get(f"http://127.0.0.1:{watched.pages['windlass-api'][0]}/metrics").text
    shown = sum(bool(line) and not line.startswith("#") for line in text.splitlines())
    await wait_until(lambda: watched.series("windlass-api")[0] >= shown + ITS_OWN_A_TARGET, "all of it was read")

    def told() -> bool:
        standby, leader = watched.series("windlass-scheduler")
        return watched.prometheus.scraped() and standby > ITS_OWN_A_TARGET and leader - standby > 5 * NODES

    await wait_until(told, "the leader tells of every node")
    (api,), (standby, leader), (worker,) = map(watched.series, watched.pages)
    recorded = len(watched.prometheus.ask('{__name__=~".*:.*"}'))
    total = 2 * api + leader + 2 * standby + NODES * worker + recorded
    print(
        f"{total} series: 2 x {api} of an API, {leader} of the leader, 2 x {standby}, {NODES} x {worker} of a worker, "
        f"{recorded} recorded"
    )
    assert total < 5000
