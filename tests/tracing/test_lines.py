"""What the roles write on stderr says which job, attempt, node, term, request and trace a line is about."""

import json
import secrets
from typing import Any

import psycopg

from tests.conftest import Servers
from tests.support import wait_until
from tests.system.cluster import Cluster, Role
from tests.tracing.test_trace import CLIENT, submit


def lines(role: Role, event: str) -> list[dict[str, Any]]:
    """The lines of this event; every line is JSON and says when, how bad, and whose it is."""
    found = [json.loads(line) for line in role.said().splitlines()]
    assert all({"time", "level", "event", "role"} <= line.keys() for line in found)
    return [line for line in found if line["event"] == event]


async def test_a_worker_s_warning_names_job_attempt_node_and_trace(traced: Cluster) -> None:
    """Its worker comes back while the API is away, and can't ask how much of the output is kept."""
    api, _, worker = traced.started
    go = traced.folder / "go"
    spec = traced.spec("warned", 'echo said; until [ -e "$GO" ]; do sleep 0.1; done', env={"GO": str(go)})
    job_id, trace_id = submit(traced, spec)
    await wait_until(lambda: traced.starts("warned"), "it runs")
    worker.kill()
    api.kill()
    worker.start()
    await wait_until(lambda: lines(worker, "log_offsets_wait"), "the worker warns")
    api.start()
    await traced.ready()
    go.touch()
    (job,) = await traced.over(job_id)
    about = {"job_id": job_id, "attempt_id": job["status"]["attempts"][0]["id"], "node": "n1", "trace_id": trace_id}
    for line in lines(worker, "log_offsets_wait"):
        assert line.items() >= ({"level": "warning", "role": "worker"} | about).items(), line


async def test_a_failed_request_is_found_by_its_id_and_its_trace(traced: Cluster, servers: Servers) -> None:
    api, *_ = traced.started
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{CLIENT}-01"}
    with psycopg.connect(servers.url_of("traced"), autocommit=True) as ledger:
        ledger.execute("ALTER TABLE audit ADD CONSTRAINT no_more CHECK (false) NOT VALID")
        try:
            answer = traced.http.post("/v1/nodes/n1/uncordon", headers=headers)
        finally:
            ledger.execute("ALTER TABLE audit DROP CONSTRAINT no_more")
    assert answer.status_code == 500
    found = {"level": "error", "role": "api", "path": "/v1/nodes/n1/uncordon", "trace_id": trace_id}
    (line,) = [one for one in lines(api, "request_failed") if one["request_id"] == answer.headers["x-request-id"]]
    assert line.items() >= found.items()
    assert "CheckViolation" in line["exception"]


async def test_a_leader_s_lines_name_its_term(traced: Cluster) -> None:
    _, scheduler, _ = traced.started
    (leading,) = lines(scheduler, "leading")
    assert leading["term"] >= 1
    for event in ("picture_loaded", "node_ready"):
        assert {line["term"] for line in lines(scheduler, event)} == {leading["term"]}, event
