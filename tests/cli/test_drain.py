"""`windlass cordon`, `uncordon`, `drain` and `forget`: what is asked, what is told, and the exit codes."""

import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.cli.conftest import Cli
from tests.cli.stub import Stub, problem


def a_node(**fields: Any) -> dict[str, Any]:
    """A node as the API shows it; its id is its name here."""
    return {"id": "n1", "name": "n1", "state": "ready", "attempts": 0} | fields


def fewer_each_time(stub: Stub) -> None:
    """With each look one attempt less is left."""

    def one_less(request: Request) -> Response | None:
        if request.method == "GET":
            stub.nodes[0]["attempts"] = max(0, stub.nodes[0]["attempts"] - 1)
        return None

    stub.fail = one_less


def test_a_drain_waits_until_the_node_is_empty(stub: Stub, cli: Cli):
    stub.nodes = [a_node(attempts=2)]
    fewer_each_time(stub)
    code, out, err = cli("drain", "n1", "--deadline", "10m")
    assert (code, out) == (0, "n1\n")
    assert [line for line in err.splitlines() if "left" in line] == [
        "windlass: n1: 2 left",
        "windlass: n1: 1 left",
        "windlass: n1: 0 left",
    ]
    assert json.loads(stub.seen("POST", "/v1/nodes/n1/drain")[0]) == {"deadline": 600.0}


def test_a_wait_has_its_limit(stub: Stub, cli: Cli):
    stub.nodes = [a_node(attempts=2, drain_until="2026-01-02T03:04:05Z")]
    code, out, err = cli("drain", "n1", "--timeout", "0.2s", "--deadline", "never", "-o", "json")
    assert code == 6
    assert json.loads(out)["attempts"] == 2
    assert "2 left, being stopped" in err
    assert "the drain goes on" in err
    assert json.loads(stub.seen("POST", "/v1/nodes/n1/drain")[0]) == {"deadline": None}


def test_who_does_not_wait_asks_once(stub: Stub, cli: Cli):
    stub.nodes = [a_node(attempts=2)]
    assert cli("drain", "n1", "--detach").code == 0
    assert json.loads(stub.seen("POST", "/v1/nodes/n1/drain")[0]) == {"deadline": 3600.0}
    assert stub.seen("GET", "/v1/nodes/n1") == []
    assert cli("drain", "n1", "--detach", "--timeout", "1s").code == 2


def test_a_drain_that_somebody_ended_is_told(stub: Stub, cli: Cli):
    stub.nodes = [a_node(attempts=2)]

    def undone(request: Request) -> Response | None:
        if request.method == "GET":
            stub.nodes[0]["draining"] = False
        return None

    stub.fail = undone
    code, _, err = cli("drain", "n1")
    assert code == 5
    assert "drained no more" in err


@pytest.mark.parametrize("verb", ["cordon", "uncordon", "forget"])
def test_wishes_are_passed_on(stub: Stub, cli: Cli, verb: str):
    stub.nodes = [a_node()]
    assert cli(verb, "n1")[:2] == (0, "n1\n")
    assert len(stub.seen("POST", f"/v1/nodes/n1/{verb}")) == 1
    stub.fail = lambda request: problem(409, "node n1 is ready: only a lost node is forgotten")
    code, _, err = cli(verb, "n1")
    assert code == 5
    assert "only a lost node" in err


def test_the_list_shows_it(stub: Stub, cli: Cli):
    stub.nodes = [a_node(draining=True, cordoned=True), a_node(name="n2", cordoned=True), a_node(name="n3")]
    _, *rows = cli("nodes").out.splitlines()
    assert [row.split()[1] for row in rows] == ["ready,draining", "ready,cordoned", "ready"]
