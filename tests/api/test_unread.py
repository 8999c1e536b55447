"""Jobs that this version of the API cannot read: shown as far as can be, ended when asked, and never a fault of ours;
and drivers that some scheduler does not know yet."""

import asyncio
import math

import pytest

from tests.api.serving import SEED, Api, assert_problem
from tests.api.test_exchange import HERE, told
from windlass.api import internal
from windlass.core.events import CancelRequested, Exited, Started
from windlass.core.ids import JobId
from windlass.core.states import Driver
from windlass.store import nodes, schedulers
from windlass.stream import wire

FUTURE = '{"driver":"future","command":["true"]}'


async def rewrite(api: Api, job: JobId) -> None:
    """A later version's API wrote this one."""
    assert await api.ledger.one("UPDATE jobs SET spec = %s::json WHERE id = %s RETURNING 1", FUTURE, job)


async def test_every_reader_shows_what_can_be_shown(api: Api) -> None:
    waits, runs, over = [await api.submit() for _ in range(3)]
    for job in (runs, over):
        await api.ledger.place(job, HERE)
    await api.ledger.move(over, Exited(0.0, None, 0))
    for job in (waits, runs, over):
        await rewrite(api, job)
    for job, state in ((waits, "queued"), (runs, "running"), (over, "succeeded")):
        answer = await api.http.get(f"/v1/jobs/{job}")
        assert (answer.status_code, answer.json()["state"], answer.json()["spec"]["driver"]) == (200, state, "future")
        for more in ("events", "logs"):
            assert (await api.http.get(f"/v1/jobs/{job}/{more}")).status_code == 200
    why = (await api.http.get(f"/v1/jobs/{runs}")).json()["status"]["reason"]
    assert why.startswith("its spec cannot be read by version ")
    assert len((await api.http.get("/v1/jobs")).json()["jobs"]) == 3
    again = await api.http.post(f"/v1/jobs/{over}/retry")
    assert "cannot be run again by this API: its spec cannot be read" in assert_problem(again, 409)["detail"]
    again = await api.http.post(f"/v1/jobs/{waits}/retry")
    assert "cannot be changed by this API" in assert_problem(again, 409)["detail"]


async def test_a_cancel_asks_nothing_of_the_spec(api: Api) -> None:
    waits, runs = [await api.submit() for _ in range(2)]
    await api.ledger.place(runs, HERE)
    for job in (waits, runs):
        await rewrite(api, job)
        assert (await api.http.post(f"/v1/jobs/{job}/cancel")).status_code == 202
    assert (await api.http.get(f"/v1/jobs/{waits}")).json()["state"] == "cancelled"
    live = await api.ledger.task(runs)
    assert live.attempt is not None
    assert (live.task.cancel_requested, live.attempt.state) == (True, "stopping")
    await api.ledger.move(runs, Exited(0.0, None, 137))
    assert (await api.http.delete(f"/v1/jobs/{waits}")).status_code == 204


async def test_a_state_of_a_later_version(api: Api) -> None:
    job = await api.submit()
    await nodes.upsert(api.ledger.conn, HERE, version="9", labels={}, facts={}, term=await api.ledger.lead())
    for table in ("tasks", "nodes"):
        await api.ledger.conn.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_state_check")  # pyright: ignore
        await api.ledger.conn.execute(f"UPDATE {table} SET state = 'later'")  # pyright: ignore
    await api.ledger.conn.execute("UPDATE nodes SET drivers = '{docker,future}'")
    assert (await api.http.get(f"/v1/jobs/{job}")).json()["state"] == "later"
    assert [one["state"] for one in (await api.http.get("/v1/jobs")).json()["jobs"]] == ["later"]
    [node] = (await api.http.get("/v1/nodes")).json()["nodes"]
    assert (node["state"], node["drivers"]) == ("suspect", ["docker"]), "nothing is placed there"
    assert (await api.http.get("/v1/cluster")).json()["nodes"]["suspect"] == 1
    assert "its record cannot be read" in assert_problem(await api.http.post(f"/v1/jobs/{job}/cancel"), 409)["detail"]
    for path in ("events", "logs"):
        assert (await api.http.get(f"/v1/jobs/{job}/{path}")).status_code == 200


async def test_a_node_is_not_told_to_forget_what_cannot_be_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal, "is_id", lambda text, kind: text.startswith("node_"))
    job = await api.submit()
    attempt = (await api.ledger.place(job, HERE)).attempt
    assert attempt is not None
    await api.ledger.move(job, Started(0.0))
    await rewrite(api, job)
    assert await told(api, attempt.id) == []
    assert await told(api) == []
    await api.http.post(f"/v1/jobs/{job}/cancel")
    assert [type(one) for one in await told(api, attempt.id)] == [wire.Stop]
    assert (await api.ledger.task(job)).task.cancel_requested
    await api.ledger.move(job, Exited(0.0, None, 0))
    assert [type(one) for one in await told(api, attempt.id)] == [wire.Forget]


async def test_a_driver_is_taken_once_every_scheduler_knows_it(api: Api) -> None:
    """In the middle of an upgrade one of 0.2 leads, or may lead next: it would stop at the first such job."""
    kubernetes = SEED | {"driver": "kubernetes"}
    conn = api.ledger.conn
    await conn.execute("INSERT INTO schedulers (id, host, pid, version) VALUES ('sched_old', 'atlas', 1, '0.2.0')")
    await schedulers.seen(conn, "sched_new", "boreas", 2, "0.3.0", redis_degraded=False)
    [fault] = assert_problem(await api.http.post("/v1/jobs", json=kubernetes), 422)["errors"]
    assert fault["field"] == "driver"
    assert "the scheduler on atlas, which is of version 0.2.0; upgrade every scheduler first" in fault["message"]
    batch = (await api.http.post("/v1/jobs/batch", json={"jobs": [kubernetes, SEED]})).json()["results"]
    assert [("error" in one, "id" in one) for one in batch] == [(True, False), (False, True)]
    await api.submit(driver="docker")
    await schedulers.gone(conn, "sched_old")
    api.services.nodes_at = -math.inf
    job = await api.submit(driver="kubernetes")
    assert (await api.ledger.task(job)).task.spec.driver is Driver.KUBERNETES
    await api.ledger.move(job, CancelRequested())
    await conn.execute("INSERT INTO schedulers (id, host, pid, version) VALUES ('sched_old', 'atlas', 1, '0.2.0')")
    await api.services.renew_nodes(asyncio.get_running_loop().time())
    assert_problem(await api.http.post(f"/v1/jobs/{job}/retry"), 422)
