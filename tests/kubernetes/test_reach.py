"""Who reaches whom under the network policies, worked out from the policies as Kubernetes defines them.

No cluster's network is here to enforce them. A connection is allowed when the one side's policies let it out and the
other side's let it in; a side that no policy selects for that direction allows all.
"""

import ipaddress
from dataclasses import dataclass, field

import pytest

from tests.kubernetes.manifests import Thing, matches, objects, of_kind, pods, sources


@dataclass(frozen=True)
class Peer:
    """A Pod with labels, in a namespace; or just an address, outside of the cluster's Pods."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    address: str = ""


OUTSIDE = {
    "the API server": Peer(address="10.96.0.1"),
    "postgres elsewhere": Peer(address="10.1.2.3"),
    "the internet": Peer(address="93.184.216.34"),
    "a node's metadata": Peer(address="169.254.169.254"),
    "cluster DNS": Peer("kube-system", {"k8s-app": "kube-dns"}),
    "prometheus": Peer("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "a stranger": Peer("default", {}),
    "a job without network": Peer("windlass-jobs", {"windlass.attempt": "att_1", "windlass.network": "none"}),
    "a job": Peer("windlass-jobs", {"windlass.attempt": "att_1", "windlass.network": "open"}),
}


def everyone(things: list[Thing]) -> dict[str, Peer]:
    made = {pod["name"].removeprefix("windlass-"): Peer("windlass", pod["metadata"]["labels"]) for pod in pods(things)}
    return OUTSIDE | made


def reaches(things: list[Thing], who: Peer, whom: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is allowed."""
    policies = of_kind(things, "NetworkPolicy")
    out = _allows(policies, "Egress", who, whom, port, protocol)
    return out and _allows(policies, "Ingress", whom, who, port, protocol)


def _allows(policies: list[Thing], way: str, mine: Peer, other: Peer, port: int, protocol: str) -> bool:
    chosen = [
        one["spec"]
        for one in policies
        if way in one["spec"]["policyTypes"]
        and not mine.address
        and one["metadata"]["namespace"] == mine.namespace
        and matches(one["spec"]["podSelector"], mine.labels)
    ]
    rules = [rule for spec in chosen for rule in spec.get(way.lower(), [])]
    return not chosen or any(_permits(rule, way, mine, other, port, protocol) for rule in rules)


def _permits(rule: Thing, way: str, mine: Peer, other: Peer, port: int, protocol: str) -> bool:
    ports, peers = rule.get("ports"), rule.get("to" if way == "Egress" else "from")
    if ports is not None and not any((one["port"], one["protocol"]) == (port, protocol) for one in ports):
        return False
    return peers is None or any(_is(peer, mine, other) for peer in peers)


def _is(peer: Thing, mine: Peer, other: Peer) -> bool:
    if "ipBlock" in peer:  # Pods have addresses too, in none of the ranges that are excepted here
        address = ipaddress.ip_address(other.address or "10.244.0.9")
        block = peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(one) for one in block.get("except", []))
    if other.address:
        return False
    spaces = peer.get("namespaceSelector")
    here = other.namespace == mine.namespace
    if spaces is not None:
        here = matches(spaces, {"kubernetes.io/metadata.name": other.namespace})
    return here and matches(peer.get("podSelector", {}), other.labels)


#: Who, whom, on which port, and whether it is allowed.
EVERYWHERE = [
    ("worker", "api", 8000, True),
    ("api", "api", 8000, True),
    ("scheduler", "api", 8000, False),
    ("a stranger", "api", 8000, True),
    ("a job", "api", 8000, True),
    ("a job without network", "api", 8000, False),
    ("prometheus", "api", 9464, True),
    ("prometheus", "scheduler", 9464, True),
    ("prometheus", "worker", 9464, True),
    ("a stranger", "scheduler", 9464, False),
    ("a job", "worker", 9464, False),
    ("api", "postgres elsewhere", 5432, True),
    ("scheduler", "postgres elsewhere", 5432, True),
    ("worker", "postgres elsewhere", 5432, False),
    ("api", "postgres elsewhere", 6379, True),
    ("scheduler", "postgres elsewhere", 6379, True),
    ("worker", "postgres elsewhere", 6379, True),
    ("worker", "the API server", 443, True),
    ("worker", "the API server", 6443, True),
    ("api", "the API server", 443, False),
    ("scheduler", "the internet", 443, False),
    ("a job", "the internet", 443, True),
    ("a job", "a node's metadata", 80, False),
    ("a job without network", "the internet", 443, False),
    ("a stranger", "a job", 8080, False),
    ("a job", "a job without network", 8080, False),
]
TRIAL = [
    ("api", "postgres", 5432, True),
    ("scheduler", "postgres", 5432, True),
    ("worker", "postgres", 5432, False),
    ("a job", "postgres", 5432, False),
    ("a stranger", "postgres", 5432, False),
    ("api", "redis", 6379, True),
    ("scheduler", "redis", 6379, True),
    ("worker", "redis", 6379, True),
    ("a job", "redis", 6379, False),
    ("a stranger", "redis", 6379, False),
    ("postgres", "the internet", 443, False),
    ("redis", "the internet", 443, False),
]
TEST = [("test", "api", 8000, True), ("test", "postgres elsewhere", 5432, False), ("test", "the internet", 443, False)]
TABLES = {("kustomize", "overlays/small"): EVERYWHERE + TRIAL, ("kustomize", "base"): EVERYWHERE}
TABLES |= {("kustomize", "overlays/production"): EVERYWHERE, ("helm", "defaults"): EVERYWHERE + TEST}
CASES = [(source, *row) for source, table in TABLES.items() if source in sources() for row in table]


@pytest.mark.parametrize(("source", "who", "whom", "port", "allowed"), CASES, ids=str)
def test_who_reaches_whom(source: tuple[str, str], who: str, whom: str, port: int, allowed: bool) -> None:
    found = objects(source)
    peers = everyone(found)
    assert reaches(found, peers[who], peers[whom], port) is allowed


@pytest.mark.parametrize("source", TABLES, ids="-".join)
def test_every_role_can_ask_for_names(source: tuple[str, str]) -> None:
    if source not in sources():
        pytest.skip("no Helm here")
    found = objects(source)
    peers = everyone(found)
    for who in ("api", "scheduler", "worker"):
        for protocol in ("UDP", "TCP"):
            assert reaches(found, peers[who], peers["cluster DNS"], 53, protocol)


def test_production_knows_where_its_servers_are() -> None:
    found = objects(("kustomize", "overlays/production"))
    peers = everyone(found)
    assert not reaches(found, peers["api"], peers["the internet"], 5432)
    assert not reaches(found, peers["worker"], peers["the internet"], 6379)
