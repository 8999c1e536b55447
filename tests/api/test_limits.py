"""What comes from outside in bad form or too much: always a problem that says what to do, never a 5xx."""

import json

import pytest

from tests.api.serving import SEED, Api, assert_problem

HOSTILE = {
    "not json": (b"{", 400),
    "empty": (b"", 400),
    "a list": (b"[]", 422),
    "null": (b"null", 422),
    "a number": (b"1", 422),
    "a string": (b'"x"', 422),
    "not UTF-8": (b'{"image": "\xff\xfe", "command": ["x"]}', 400),
    "NaN": (b'{"image": "u", "resources": {"cpu": NaN}}', 400),
    "Infinity": (b'{"image": "u", "attempt_timeout": Infinity}', 400),
    "beyond a float": (b'{"image": "u", "attempt_timeout": 1e999}', 400),
    "a huge float": (b'{"image": "u", "attempt_timeout": 1e300}', 422),
    "a huge whole number": (b'{"image": "u", "priority": ' + b"9" * 400 + b"}", 422),
    "a huge duration": (b'{"image": "u", "job_deadline": "' + b"9" * 4000 + b'd"}', 422),
    "a huge size": (b'{"image": "u", "resources": {"memory": "' + b"9" * 4000 + b'Pi"}}', 422),
    "a huge cpu": (b'{"image": "u", "resources": {"cpu": "1e999999"}}', 422),
    "deep": (b'{"image": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "deep objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
    "a NUL": (b'{"image": "u", "command": ["a\\u0000b"]}', 422),
    "a NUL in a name": (b'{"image": "u", "env": {"A\\u0000": "b"}}', 422),
    "a NUL in a key": (b'{"image": "u", "\\u0000": "b"}', 422),
    "a lone surrogate": (b'{"image": "u", "command": ["\\ud800"]}', 400),
    "a lone surrogate as key": (b'{"\\udfff": "u"}', 400),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400),
    "two documents": (b"{} {}", 400),
}


@pytest.mark.parametrize(("body", "status"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/batch"])
async def test_hostile_bodies(api: Api, path: str, body: bytes, status: int):
    answer = await api.http.post(path, content=body, headers={"content-type": "application/json"})
    problem = assert_problem(answer, answer.status_code)
    assert answer.status_code in ((400, 422) if path.endswith("batch") else (status,)), problem
    assert len(answer.content) < 4096


async def test_a_body_over_a_mebibyte_is_refused(api: Api):
    def of(size: int) -> bytes:
        empty = len(json.dumps(SEED | {"args": [""]}))
        return json.dumps(SEED | {"args": ["x" * (size - empty)]}).encode()

    headers = {"content-type": "application/json"}
    assert (await api.http.post("/v1/jobs", content=of(2**20), headers=headers)).status_code == 201
    assert_problem(await api.http.post("/v1/jobs", content=of(2**20 + 1), headers=headers), 413, "1048576")


async def test_a_batch_may_be_larger(api: Api):
    one = SEED | {"args": ["x" * 15_000]}
    assert (await api.http.post("/v1/jobs/batch", json={"jobs": [one] * 1000})).status_code == 200
    two = SEED | {"args": ["x" * 17_000]}
    assert_problem(await api.http.post("/v1/jobs/batch", json={"jobs": [two] * 1000}), 413)


async def test_env_and_labels_have_limits(api: Api):
    fits = SEED | {"env": {"A": "x" * (128 * 1024 - 3)}, "labels": {f"l{i}": "" for i in range(64)}}
    assert (await api.http.post("/v1/jobs", json=fits)).status_code == 201
    problem = assert_problem(await api.http.post("/v1/jobs", json=SEED | {"env": {"A": "x" * (128 * 1024)}}), 422)
    assert problem["errors"][0]["field"] == "env"
    problem = assert_problem(
        await api.http.post("/v1/jobs", json=SEED | {"labels": {f"l{i}": "" for i in range(65)}}), 422
    )
    assert problem["errors"][0]["field"] == "labels"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", ""])
async def test_only_json_is_read(api: Api, kind: str):
    answer = await api.http.post("/v1/jobs", content=json.dumps(SEED).encode(), headers={"content-type": kind})
    assert_problem(answer, 415, "application/json")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"])
async def test_json_by_any_of_its_names_is_read(api: Api, kind: str):
    answer = await api.http.post("/v1/jobs", content=json.dumps(SEED).encode(), headers={"content-type": kind})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=x", "limit=", "state=no", "state=", "cursor=", "cursor=job_x", "cursor=%00",
        "label=x", "label==v", "label=%00=v", "name=%00", "queue=" + "x" * 64, "name=" + "x" * 129,
    ],
)  # fmt: skip
async def test_bad_list_queries(api: Api, query: str):
    assert_problem(await api.http.get(f"/v1/jobs?{query}"), 422)


@pytest.mark.parametrize(
    "query", ["label=a%FFb%3Dc", "name=%F0%9F%98%80", "name=%ED%A0%80", "x=1", "label=a%3D%22%5C", "queue="]
)
async def test_odd_list_queries_find_nothing(api: Api, query: str):
    answer = await api.http.get(f"/v1/jobs?{query}")
    assert answer.status_code == 200
    assert answer.json() == {"jobs": [], "next_cursor": None}


ROUTES = [
    ("GET", "/v1/jobs/{}"), ("POST", "/v1/jobs/{}/cancel"), ("POST", "/v1/jobs/{}/retry"), ("DELETE", "/v1/jobs/{}"),
    ("GET", "/v1/jobs/{}/logs"), ("GET", "/v1/jobs/{}/events"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "job_id",
    ["job_00000000000000000000000000", "x", "%00", "%FF", "job_" + "x" * 3000, "%F0%9F%98%80", "att_" + "0" * 26],
)
async def test_no_such_job(api: Api, method: str, path: str, job_id: str):
    answer = await api.http.request(method, path.format(job_id))
    assert_problem(answer, 404, "no job")
    assert len(answer.content) < 1000


@pytest.mark.parametrize("query", ["wait=-1", "wait=61", "wait=nan", "wait=inf", "wait=x"])
async def test_bad_waits(api: Api, query: str):
    assert_problem(await api.http.get(f"/v1/jobs/{await api.submit()}?{query}"), 422, "wait")


@pytest.mark.parametrize(
    "query",
    [
        "attempt=0", "attempt=x", "attempt=99999999999999999999", "tail=-1", "tail=100001", "since=x", "since=nan",
        "since=inf", "since=1e300", "since=-1e300", "since=2026-13-01", "stream=both", "follow=maybe", "since=",
    ],
)  # fmt: skip
async def test_bad_log_queries(api: Api, query: str):
    assert_problem(await api.http.get(f"/v1/jobs/{await api.submit()}/logs?{query}"), 422)


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1-", "-1", "1-x", "9" * 30 + "-1", "1-" + "9" * 30, "1-1-1", "١-١", "%00"]
)
async def test_bad_event_cursors(api: Api, cursor: str):
    assert_problem(await api.http.get(f"/v1/events?cursor={cursor}"), 422, "cursor")


async def test_bad_event_filters(api: Api):
    assert_problem(await api.http.get("/v1/events?job=x"), 422, "job")
    assert_problem(await api.http.get("/v1/events", headers={"last-event-id": "x"}), 422, "cursor")
