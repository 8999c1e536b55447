"""What holds for every request: the host check, request ids, problems for what is not there, metrics."""

import asyncio
import re

import pytest
from structlog.testing import capture_logs

from tests.api.serving import SEED, Api, assert_problem
from windlass.store import nodes


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil", "", "[::1].x"]
)
async def test_a_foreign_host_is_turned_away(api: Api, host: str):
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/livez"), ("GET", "/nowhere")):
        assert_problem(await api.http.request(method, path, json=SEED, headers={"host": host}), 421)
    assert await api.ledger.one("SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8000"])
async def test_loopback_by_any_of_its_names_is_served(api: Api, host: str):
    assert (await api.http.get("/livez", headers={"host": host})).status_code == 200


async def test_a_request_without_a_host_is_turned_away(api: Api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET /livez HTTP/1.0\r\n\r\n")
    assert b" 421 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_request_ids_are_echoed_or_made(api: Api):
    mine = await api.http.get("/v1/jobs/x", headers={"x-request-id": "abc.1"})
    assert mine.headers["x-request-id"] == "abc.1"
    assert mine.json()["request_id"] == "abc.1"
    for bad in ("x" * 129, "a b", "a\tb", "<x>"):
        made = (await api.http.get("/livez", headers={"x-request-id": bad})).headers["x-request-id"]
        assert made != bad
        assert made.startswith("req_")
    stream = await api.http.get(f"/v1/jobs/{await api.submit()}/logs", headers={"x-request-id": "s"})
    assert stream.headers["x-request-id"] == "s"


async def test_what_nobody_foresaw_has_an_id_and_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch):
    async def broken(*_: object) -> None:
        raise RuntimeError("the password is geheim")

    monkeypatch.setattr(nodes, "every", broken)
    with capture_logs() as lines:
        answer = await api.http.get("/v1/nodes", headers={"x-request-id": "mine"})
    document = assert_problem(answer, 500, "logged")
    assert (document["request_id"], document["code"]) == ("mine", "internal")
    assert not re.search("geheim|RuntimeError|Traceback|[.]py", answer.text + str(answer.headers))
    (line,) = [line for line in lines if line["event"] == "request_failed"]
    assert "geheim" in str(line["exc_info"])


async def test_what_is_not_there(api: Api):
    for path in ("/", "/v1", "/v1/nope", "/v2/jobs", "/v1/jobs/x/y", "/%00", "//v1/jobs"):
        assert_problem(await api.http.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/jobs", "POST"), ("DELETE", "/v1/nodes", "GET"), ("PATCH", "/v1/jobs/x", "GET"),
        ("POST", "/v1/nodes", "GET"), ("PURGE", "/livez", "GET"), ("OPTIONS", "/v1/jobs/x", "GET"),
        ("GET", "/v1/jobs/x/cancel", "POST"),
    ],
)  # fmt: skip
async def test_methods_not_offered(api: Api, method: str, path: str, allow: str):
    answer = await api.http.request(method, path)
    assert_problem(answer, 405)
    assert allow in answer.headers["allow"]


async def test_head_has_no_body(api: Api):
    for path in ("/livez", "/v1/jobs", "/v1/nope"):
        answer = await api.http.head(path)
        assert answer.status_code in (200, 404, 405)
        assert answer.content == b""


async def test_no_page_of_another_origin_may_read(api: Api):
    answer = await api.http.get("/v1/jobs", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_metrics_have_few_labels(api: Api):
    job_id = await api.submit()
    await api.http.get(f"/v1/jobs/{job_id}")
    await api.http.get(f"/v1/jobs/{job_id}/logs")
    await api.http.get("/wp-admin.php")
    await api.http.request("PURGE", "/livez")
    answer = await api.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    routes = set(re.findall(r'windlass_api_requests_total\{[^}]*route="([^"]*)"', answer.text))
    assert {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/logs", "none"} <= routes
    assert not [route for route in routes if "job_0" in route or "wp-admin" in route]
    methods = set(re.findall(r'windlass_api_requests_total\{method="([^"]*)"', answer.text))
    assert {"OTHER", "GET", "POST"} <= methods <= {"OTHER", "GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"}
    assert re.search(r'requests_total\{method="POST",route="/v1/jobs",status="2xx"\} \d', answer.text)


async def test_health_and_version(api: Api):
    assert (await api.http.get("/livez")).json() == {"status": "ok", "checks": {}}
    ready = await api.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["checks"] == {"ledger": "ok", "stream": "ok"}
    assert (await api.http.get("/version")).json()["api"] == "v1"
