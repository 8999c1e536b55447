"""GET /v1/scaling: how many workers are needed."""

from tests.api.serving import Api, assert_problem
from tests.builders import GIB, a_node, a_spec


async def test_nothing_there_nothing_needed(api: Api):
    found = (await api.http.get("/v1/scaling")).json()
    assert (found["needed_workers"], found["ready_workers"], found["worker"]) == (0, 0, None)
    await api.submit()
    assert (await api.http.get("/v1/scaling")).json()["needed_workers"] == 1


async def test_what_waits_and_runs_in_workers_of_the_smallest_size(api: Api):
    await api.register(a_node("n1", 4))
    await api.register(a_node("n2", 8, cordoned=True))
    jobs = await api.ledger.submit(*[a_spec(2, GIB)] * 5, a_spec(64))
    await api.start(jobs[0])
    found = (await api.http.get("/v1/scaling")).json()
    assert found == {
        "needed_workers": 3,
        "ready_workers": 2,
        "worker": {"cpu": 4, "memory": 8 * GIB},
        "waiting": {"tasks": 5, "cpu": 72, "memory": 4 * GIB + 2**20},
        "running": {"tasks": 1, "cpu": 2, "memory": GIB},
        "unplaceable": 1,
    }


async def test_a_size_may_be_asked_about(api: Api):
    await api.ledger.submit(*[a_spec(2, GIB)] * 5)
    found = (await api.http.get("/v1/scaling", params={"cpu": "8", "memory": "3Gi"})).json()
    assert (found["needed_workers"], found["worker"]) == (2, {"cpu": 8, "memory": 3 * GIB})


async def test_a_size_that_is_none(api: Api):
    assert_problem(await api.http.get("/v1/scaling?cpu=2"), 422, "give both")
    assert_problem(await api.http.get("/v1/scaling?cpu=many&memory=1Gi"), 422, "cpu")
