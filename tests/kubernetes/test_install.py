"""The trial of deploy/kubernetes, whole: its own manifests and Secrets, the image of our Dockerfile, a first job.

No cluster is here. `docker_node` stands for the kubelet and tells what of it is real; the API server that the worker
asks for Pods is the stand-in, over TLS, found as a Pod finds it; PostgreSQL and Redis are real, in stand-ins for their
images.
"""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.compose import standins
from tests.compose.stack import ROOT, building, compose_missing
from tests.images import busybox_image, docker_missing
from tests.kubernetes.docker_node import Node, docker, make_certificate
from tests.kubernetes.manifests import Thing, charted, helm_missing, kustomized, named, the_pod
from tests.kubernetes.standin.server import Cluster as Kubernetes
from tests.kubernetes.test_manifests import the_secrets
from tests.support import wait_until
from windlass import __version__

MISSING = (
    docker_missing() or compose_missing() or ("" if os.geteuid() == 0 else "only root can give files their owners")
)
pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]
IMAGE = "windlass-test/kubernetes/windlass:test"


def until(what: str, look: Callable[[], object], within: float = 120) -> None:
    asyncio.run(wait_until(look, what))


@dataclass
class Trial:
    """What runs: containers by the name of what made them and a number."""

    node: Node
    kubernetes: Kubernetes
    made: dict[tuple[str, int], str]

    def start(self, owner: str, number: int = 0) -> None:
        """Start it, and wait as Kubernetes does until it has started and is ready."""
        self.made[owner, number] = made = self.node.start(owner, number)
        (main,) = the_pod(self.node.things, owner)["spec"]["containers"]
        within = main["startupProbe"]["periodSeconds"] * main["startupProbe"]["failureThreshold"]
        for kind in ("startup", "readiness", "liveness"):
            until(f"{owner}: {kind}", lambda kind=kind: not self.node.probe(made, owner, kind), within)

    def windlass(self, *words: str) -> str:
        """As an operator types it: kubectl exec deployment/windlass-api -- windlass ..."""
        return docker("exec", self.made["windlass-api", 0], "windlass", *words).stdout

    def get(self, path: str) -> Thing:
        """What the API answers an admin."""
        token = named(self.node.things, "Secret", "windlass")["stringData"]["admin-token"]
        url = f"http://{self.node.address(self.made['windlass-api', 0])}:8000{path}"
        return httpx2.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False).json()

    def ready(self) -> Thing:
        """The worker, once it is a node that takes work."""
        until(
            "the worker is a node", lambda: [one for one in self.get("/v1/nodes")["nodes"] if one["state"] == "ready"]
        )
        (node,) = self.get("/v1/nodes")["nodes"]
        return node


def the_things() -> list[Thing]:
    """The trial, its Secrets, and the chart's own test with an image that is at hand."""
    test = [one for one in charted("defaults") if one["kind"] == "Pod"] if not helm_missing() else []
    for one in test:
        (container,) = one["spec"]["containers"]
        container["args"] = [busybox_image() if word.startswith("busybox:") else word for word in container["args"]]
    return kustomized("overlays/small") + the_secrets() + test


@pytest.fixture(scope="module")
def image() -> str:
    """Windlass' own, by its Dockerfile."""
    base = standins.python().build()
    look = ("image", "inspect", "-f", "{{.Id}}", IMAGE)
    before = docker(*look, check=False).stdout
    with building():
        subprocess.run(
            ["docker", "build", "-q", "-t", IMAGE, "--build-arg", f"BASE={base}", str(ROOT)],
            env=os.environ | {"DOCKER_BUILDKIT": "0"}, check=True, capture_output=True, timeout=900,
        )  # fmt: skip
    if before not in ("", docker(*look).stdout):
        docker("rmi", before.strip(), check=False)
    return IMAGE


@pytest.fixture(scope="module")
def trial(image: str, roomy_folder: Path) -> Iterator[Trial]:
    folder = roomy_folder / "node"
    folder.mkdir()
    images = {f"windlass:{__version__}": image, "postgres:17": standins.postgres().build()}
    node = Node(the_things(), folder, images | {"redis:7.4": standins.redis().build()})
    try:
        certificate, tls = make_certificate(folder, node.gateway)
        with Kubernetes(namespace="windlass-jobs", host=node.gateway, tls=tls) as kubernetes:
            quota = next(one for one in node.things if one["kind"] == "ResourceQuota")
            kubernetes.quotas["windlass"] = quota["spec"]["hard"]
            node.admit(kubernetes.token, "windlass", kubernetes.port, certificate)
            found = Trial(node, kubernetes, {})
            for owner in ("postgres", "redis", "windlass-api", "windlass-scheduler", "windlass-worker"):
                found.start(owner)
            found.start("windlass-scheduler", 1)
            yield found
            node.close()  # first, so that no connection is left open
    except BaseException:
        print(node.words())
        raise
    finally:
        node.close()


def test_a_first_job(trial: Trial) -> None:
    trial.ready()
    assert trial.windlass("run", "-q", "--image", busybox_image(), "--", "echo", "hello") == "hello\n"
    assert [one for one in trial.kubernetes.asked if one.endswith("/namespaces/windlass-jobs/pods")]


def test_the_room_is_the_quota(trial: Trial) -> None:
    node = trial.ready()
    assert (node["name"], node["capacity"]) == ("windlass-worker-0", {"cpu": 8, "memory": 16 * 2**30})


@pytest.mark.skipif(bool(helm_missing()), reason=helm_missing() or "it is here")
def test_what_helm_test_runs(trial: Trial) -> None:
    trial.ready()
    made = trial.node.start("windlass-test")
    assert docker("wait", made).stdout.strip() == "0", docker("logs", made).stderr
    assert docker("logs", made).stdout == "windlass runs jobs\n"


def test_nothing_is_written_but_where_it_may_be(trial: Trial) -> None:
    for (owner, _), made in trial.made.items():
        assert trial.node.written(made) == [], owner
        told = trial.node.inspected(made)
        assert told["HostConfig"]["ReadonlyRootfs"] is True
        assert told["State"]["OOMKilled"] is False


def test_a_worker_drains_within_its_time(trial: Trial) -> None:
    trial.ready()
    job = trial.windlass("run", "-d", "--image", busybox_image(), "--", "sh", "-c", "sleep 4; echo to the end").strip()
    until("it runs", lambda: trial.get(f"/v1/jobs/{job}")["state"] == "running")
    before = trial.ready()["id"]
    assert trial.node.stop(trial.made["windlass-worker", 0], "windlass-worker") == 0
    assert trial.windlass("logs", job) == "to the end\n"
    assert not trial.kubernetes.store.pods
    trial.start("windlass-worker")
    assert trial.ready()["id"] == before
    assert trial.windlass("run", "-q", "--image", busybox_image(), "--", "echo", "again") == "again\n"


def test_every_role_ends_well(trial: Trial) -> None:
    for owner, number in (("windlass-scheduler", 0), ("windlass-api", 0)):
        assert trial.node.stop(trial.made[owner, number], owner) == 0
        trial.start(owner, number)
    assert trial.windlass("run", "-q", "--image", busybox_image(), "--", "echo", "still") == "still\n"
