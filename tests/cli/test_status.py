"""`windlass status`: the cluster at one glance, and an exit code a script can ask for."""

import json

from tests.cli.conftest import Cli
from tests.cli.stub import Stub

LEADER = {"id": "sched_1", "host": "atlas", "pid": 11, "version": "1", "term": 7, "since": "2026-01-02T03:04:05Z"}
STANDBY = {"id": "sched_2", "host": "atlas", "pid": 12, "version": "1", "since": "2026-01-02T03:04:05Z"}
CLUSTER = {
    "leader": LEADER,
    "standbys": [STANDBY | {"seen_at": "2026-01-02T03:04:05Z"}],
    "nodes": {"ready": 3, "suspect": 0, "lost": 1},
    "jobs": {"queued": 10000, "running": 4},
    "redis_degraded": False,
    "redis_degraded_since": None,
    "version": "1",
}


def test_it_shows_who_leads_and_what_there_is(stub: Stub, cli: Cli):
    stub.cluster = CLUSTER
    code, out, err = cli("status")
    header, leader, standby, empty, *facts = out.splitlines()
    assert header.split() == ["ROLE", "ID", "HOST", "PID", "TERM", "SINCE", "SEEN", "VERSION"]
    assert leader.split()[:5] == ["leader", "sched_1", "atlas", "11", "7"]
    assert standby.split()[:5] == ["standby", "sched_2", "atlas", "12", "-"]
    assert facts == ["nodes    3 ready, 1 lost", "jobs     10000 or more queued, 4 running", "redis    ok"]
    assert (empty, code, err) == ("", 0, "")


def test_without_a_leader_it_says_so_and_exits_with_1(stub: Stub, cli: Cli):
    stub.cluster = CLUSTER | {"leader": None}
    code, out, _ = cli("status")
    assert "leader   none" in out
    assert code == 1
    assert cli("status", "-o", "json").code == 1


def test_a_broken_redis_is_told_and_is_no_failure(stub: Stub, cli: Cli):
    stub.cluster = CLUSTER | {"redis_degraded": True, "redis_degraded_since": "2026-01-02T03:04:05Z"}
    code, out, _ = cli("status")
    assert "redis    degraded for " in out
    assert code == 0


def test_formats(stub: Stub, cli: Cli):
    stub.cluster = CLUSTER
    assert cli("status", "-o", "name").out == "sched_1\nsched_2\n"
    assert json.loads(cli("status", "-o", "json").out) == CLUSTER
