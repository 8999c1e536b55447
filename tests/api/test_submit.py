"""Submit: one job, many, and the same one twice."""

import asyncio

from tests.api.serving import SEED, Api, assert_problem
from tests.builders import a_node
from tests.support import wait_until


async def test_the_seed_form_is_a_whole_job(api: Api):
    answer = await api.http.post("/v1/jobs", json=SEED)
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["spec"]["image"] == "ubuntu"
    assert job["spec"]["driver"] == "docker"
    assert job["spec"]["max_retries"] == 3
    assert job["status"]["attempts"] == []
    found = await api.job(job["id"])
    assert {k: v for k, v in found.items() if k != "status"} == {k: v for k, v in job.items() if k != "status"}
    assert found["status"]["reason"].startswith("no node has registered yet")
    assert await api.ledger.one("SELECT state FROM tasks WHERE job_id = %s", job["id"]) == "queued"


async def test_a_spec_read_back_is_the_same_job_again(api: Api):
    given = SEED | {
        "name": "n",
        "env": {"A": "ü"},
        "resources": {"cpu": "250m", "memory": "1.5Gi"},
        "labels": {"a": ""},
    }
    first = (await api.http.post("/v1/jobs", json=given)).json()
    again = await api.http.post("/v1/jobs", json=first["spec"])
    assert again.status_code == 201
    assert again.json()["spec"] == first["spec"]


async def test_every_fault_of_a_spec_is_named(api: Api):
    bad = {"image": "u", "comand": ["x"], "resources": {"cpu": -1}, "max_retries": 1.5}
    problem = assert_problem(await api.http.post("/v1/jobs", json=bad), 422)
    assert problem["code"] == "invalid-spec"
    faults = {e["field"]: e for e in problem["errors"]}
    assert faults.keys() == {"comand", "resources.cpu", "max_retries"}
    assert "did you mean 'command'?" in faults["comand"]["message"]
    assert faults["resources.cpu"]["value"] == "-1"
    assert faults["resources.cpu"]["pointer"] == "/resources/cpu"
    assert await api.ledger.one("SELECT count(*) FROM jobs") == 0


async def test_what_no_node_could_ever_hold_is_refused(api: Api):
    await api.register(a_node("n1", cpu=4))
    await api.register(a_node("n2", cpu=2))
    await wait_until(lambda: len(api.services.nodes) == 2, "the API has looked at the nodes again")
    problem = assert_problem(await api.http.post("/v1/jobs", json=SEED | {"resources": {"cpu": 5}}), 422, "no node")
    assert [e["field"] for e in problem["errors"]] == ["resources"]
    assert (await api.http.post("/v1/jobs", json=SEED | {"resources": {"cpu": 4}})).status_code == 201
    answer = await api.http.post("/v1/jobs/batch", json={"jobs": [SEED, SEED | {"resources": {"memory": "1Ti"}}]})
    fine, wrong = answer.json()["results"]
    assert "id" in fine
    assert wrong["error"]["errors"][0]["field"] == "resources"


async def test_a_node_that_joined_this_moment_counts(api: Api):
    await api.register(a_node("small", cpu=1))
    await wait_until(lambda: len(api.services.nodes) == 1, "the API has looked at the nodes again")
    await api.register(a_node("large", cpu=64))
    assert (await api.http.post("/v1/jobs", json=SEED | {"resources": {"cpu": 32}})).status_code == 201
    listed = await api.http.post("/v1/jobs/batch", json={"jobs": [SEED | {"resources": {"cpu": 99}}] * 50})
    assert all("has only 64 cpu" in result["error"]["errors"][0]["message"] for result in listed.json()["results"])


async def test_one_key_is_one_job(api: Api):
    headers = {"idempotency-key": "nightly"}
    first = await api.http.post("/v1/jobs", json=SEED, headers=headers)
    again = await api.http.post("/v1/jobs", json=SEED, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    other = await api.http.post("/v1/jobs", json=SEED | {"name": "x"}, headers=headers)
    assert assert_problem(other, 422, first.json()["id"])["code"] == "idempotency-mismatch"
    assert await api.ledger.one("SELECT count(*) FROM jobs") == 1


async def test_the_same_job_written_otherwise_is_the_same_payload(api: Api):
    headers = {"idempotency-key": "k"}
    first = await api.http.post("/v1/jobs", json=SEED | {"resources": {"cpu": "500m"}}, headers=headers)
    again = await api.http.post("/v1/jobs", json={"resources": {"cpu": 0.5}} | SEED, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)


async def test_fifty_at_once_under_one_key_are_one_job(api: Api):
    headers = {"idempotency-key": "stampede"}
    answers = await asyncio.gather(*(api.http.post("/v1/jobs", json=SEED, headers=headers) for _ in range(50)))
    assert sorted(a.status_code for a in answers) == [200] * 49 + [201]
    assert len({a.json()["id"] for a in answers}) == 1
    assert await api.ledger.one("SELECT count(*) FROM jobs") == 1
    assert await api.ledger.one("SELECT count(*) FROM events WHERE type = 'job.submitted'") == 1


async def test_bad_keys_are_refused(api: Api):
    for key in ("", "x" * 256, "tab\there", "ü"):
        answer = await api.http.post("/v1/jobs", json=SEED, headers={"idempotency-key": key.encode("latin-1")})
        assert_problem(answer, 422, "Idempotency-Key")


async def test_a_key_whose_job_vanishes_meanwhile_is_told_to_try_again(api: Api):
    headers = {"idempotency-key": "k"}
    await api.http.post("/v1/jobs", json=SEED, headers=headers)
    # Between the insert that finds the key taken and the look at who has it, its holder is deleted.
    await api.ledger.conn.execute(
        "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN DELETE FROM jobs WHERE idempotency_key = ''k''; RETURN NULL; END'"
    )
    await api.ledger.conn.execute(
        "CREATE TRIGGER gone AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION gone()"
    )
    try:
        assert_problem(await api.http.post("/v1/jobs", json=SEED, headers=headers), 503, "try again")
    finally:
        await api.ledger.conn.execute("DROP FUNCTION gone CASCADE")
    assert (await api.http.post("/v1/jobs", json=SEED, headers=headers)).status_code == 201


async def test_a_batch_answers_in_order_with_each_ones_own_error(api: Api):
    wanted = [SEED | {"name": f"j{i}"} for i in range(5)]
    wanted[1] = {"image": 7}
    wanted[3] = "not a job"  # pyright: ignore[reportArgumentType]
    answer = await api.http.post("/v1/jobs/batch", json={"jobs": wanted})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [set(r) for r in results] == [{"id"}, {"error"}, {"id"}, {"error"}, {"id"}]
    assert results[1]["error"]["status"] == 422
    assert results[1]["error"]["errors"][0]["field"] == "image"
    assert [(await api.job(r["id"]))["name"] for r in results if "id" in r] == ["j0", "j2", "j4"]


async def test_a_batch_holds_from_one_to_a_thousand(api: Api):
    answer = await api.http.post("/v1/jobs/batch", json={"jobs": [SEED] * 1000})
    assert answer.status_code == 200
    ids = [r["id"] for r in answer.json()["results"]]
    rows = await (await api.ledger.conn.execute("SELECT job_id FROM tasks ORDER BY seq")).fetchall()
    assert [row[0] for row in rows] == ids
    for wrong in ({"jobs": [SEED] * 1001}, {"jobs": []}, {"jobs": {}}, {}, [SEED], {"jobs": [SEED], "x": 1}):
        assert_problem(await api.http.post("/v1/jobs/batch", json=wrong), 422)
    assert await api.ledger.one("SELECT count(*) FROM jobs") == 1000


async def test_a_batch_under_a_key_is_safe_to_repeat(api: Api):
    headers = {"idempotency-key": "b"}
    wanted = {"jobs": [SEED | {"name": f"j{i}"} for i in range(20)]}
    first, again = await asyncio.gather(
        *(api.http.post("/v1/jobs/batch", json=wanted, headers=headers) for _ in range(2))
    )
    assert first.json() == again.json()
    assert await api.ledger.one("SELECT count(*) FROM jobs") == 20
    wanted["jobs"][3]["name"] = "other"
    results = (await api.http.post("/v1/jobs/batch", json=wanted, headers=headers)).json()["results"]
    assert [i for i, r in enumerate(results) if "error" in r] == [3]
    assert results[3]["error"]["code"] == "idempotency-mismatch"


async def test_a_batchs_keys_are_not_a_single_jobs(api: Api):
    await api.http.post("/v1/jobs/batch", json={"jobs": [SEED]}, headers={"idempotency-key": "k"})
    single = await api.http.post("/v1/jobs", json=SEED, headers={"idempotency-key": "k/0"})
    assert single.status_code == 201
