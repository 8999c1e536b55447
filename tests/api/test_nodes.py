"""Nodes: looking at them, and what operators may want of them."""

import pytest

from tests.api.serving import Api, assert_problem
from tests.builders import a_node
from windlass.core.events import NodeLost
from windlass.core.states import NodeState
from windlass.store import nodes


@pytest.fixture
async def n1(api: Api) -> str:
    await api.register(a_node("n1"))
    return "/v1/nodes/n1"


async def test_wishes_are_written_down_and_shown(api: Api, n1: str) -> None:
    plain = (await api.http.get(n1)).json()
    assert (plain["cordoned"], plain["draining"], plain["drain_until"]) == (False, False, None)
    assert (await api.http.post(f"{n1}/cordon")).json()["cordoned"]
    found = (await api.http.post(f"{n1}/drain", json={"deadline": "10m"})).json()
    assert (found["cordoned"], found["draining"]) == (True, True)
    left = "SELECT round(extract(epoch FROM drain_until - now())) FROM nodes"
    assert 590 <= await api.ledger.one(left) <= 600
    assert found["drain_until"]
    for body, seconds in ((None, 3600), ({}, 3600), ({"deadline": 0}, 0), ({"deadline": None}, None)):
        answer = await api.http.post(f"{n1}/drain", **({} if body is None else {"json": body}))
        assert answer.status_code == 200
        got = await api.ledger.one(left)
        assert got is seconds or abs(got - seconds) < 10
    found = (await api.http.post(f"{n1}/uncordon")).json()
    assert (found["cordoned"], found["draining"], found["drain_until"]) == (False, False, None)


@pytest.mark.parametrize("body", [[], "x", {"dead": 1}, {"deadline": "soon"}, {"deadline": -1}, {"deadline": True}])
async def test_a_bad_deadline_is_refused(api: Api, n1: str, body: object) -> None:
    problem = assert_problem(await api.http.post(f"{n1}/drain", json=body), 422)
    assert problem["errors"]
    assert not (await api.http.get(n1)).json()["draining"]


@pytest.mark.parametrize("verb", ["cordon", "uncordon", "drain", "forget"])
async def test_an_unknown_node_is_not_found(api: Api, verb: str) -> None:
    assert_problem(await api.http.post(f"/v1/nodes/nobody/{verb}"), 404)


async def test_only_a_lost_node_is_forgotten(api: Api, n1: str) -> None:
    assert_problem(await api.http.post(f"{n1}/forget"), 409, "n1 is ready: only a lost node")
    term = await api.ledger.one("SELECT max(term) FROM leases")
    node = (await nodes.every(api.ledger.conn))[0].node
    await nodes.set_state(api.ledger.conn, node.id, NodeState.SUSPECT, term=term)
    assert_problem(await api.http.post(f"{n1}/forget"), 409, "stop its worker")
    await nodes.set_state(api.ledger.conn, node.id, NodeState.LOST, term=term)
    assert (await api.http.post(f"{n1}/forget")).status_code == 204
    assert_problem(await api.http.get(n1), 404)


async def test_an_exclusive_job_says_why_it_does_not_leave_its_lost_node(api: Api, n1: str) -> None:
    node = (await nodes.every(api.ledger.conn))[0].node
    job, plain = await api.submit(exclusive=True), await api.submit()
    await api.start(job, node)
    await api.start(plain, node)
    assert (await api.job(job))["status"]["reason"] is None
    term = await api.ledger.one("SELECT max(term) FROM leases")
    await nodes.set_state(api.ledger.conn, node.id, NodeState.LOST, term=term)
    assert (await api.job(job))["status"]["reason"] == (
        "its node n1 is lost; exclusive: waits until the old copy is proven gone; "
        "if the machine is off for good: windlass forget n1"
    )
    assert (await api.job(plain))["status"]["reason"] is None
    await api.ledger.move(plain, NodeLost())
    await api.ledger.one("UPDATE attempts SET late = 'exit code 0, 3.0 s after' WHERE state = 'lost' RETURNING 1")
    assert (await api.job(plain))["status"]["attempts"][0]["late"] == "exit code 0, 3.0 s after"
