"""Every change leaves a record that says who made it, in the change's own transaction."""

from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.access.conftest import Guarded
from tests.api.serving import SEED, assert_problem
from tests.builders import a_node
from windlass.api.access import LEAST
from windlass.core.access import Role
from windlass.core.ids import NODE
from windlass.core.states import NodeState
from windlass.mint import new_id


async def submitted(guarded: Guarded, token: str, **headers: str) -> str:
    answer = await guarded.ask(token, "POST", "/v1/jobs", json=SEED, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["id"]


async def test_each_change_is_recorded_with_who_made_it(guarded: Guarded) -> None:
    token = await guarded.make(Role.ADMIN, "anna")
    node = a_node("n1")
    await guarded.api.register(node)
    wanted: list[tuple[str, str]] = [("create_token", await guarded.api.ledger.one("SELECT id FROM tokens"))]

    async def change(action: str, method: str, path: str, target: str, **more: Any) -> None:
        answer = await guarded.ask(token, method, path, headers={"x-request-id": f"req-{action}"}, **more)
        assert answer.is_success, answer.text
        wanted.append((action, target))

    job, over, done = [await submitted(guarded, token) for _ in range(3)]
    wanted += [("submit_job", one) for one in (job, over, done)]
    batch = (await guarded.ask(token, "POST", "/v1/jobs/batch", json={"jobs": [SEED, {}, SEED]})).json()["results"]
    ids = [batch[0]["id"], batch[2]["id"]]
    wanted.append(("submit_jobs", ids[0]))
    for one in (over, done):
        await guarded.api.run(one)
    await change("cancel_job", "POST", f"/v1/jobs/{job}/cancel", job)
    await change("delete_job", "DELETE", f"/v1/jobs/{done}", done)
    for verb in ("cordon", "uncordon", "drain"):
        await change(f"{verb}_node", "POST", f"/v1/nodes/n1/{verb}", node.id)
    await guarded.api.ledger.conn.execute("UPDATE nodes SET state = %s", (NodeState.LOST,))
    await change("forget_node", "POST", "/v1/nodes/n1/forget", node.id)
    retried = await guarded.ask(token, "POST", f"/v1/jobs/{over}/retry")
    wanted.append(("retry_job", retried.json()["id"]))
    await change("create_token", "POST", "/v1/tokens", "", json={"name": "x", "role": "viewer"})
    made = await guarded.api.ledger.one("SELECT id FROM tokens WHERE name = 'x'")
    wanted[-1] = ("create_token", made)
    await change("revoke_token", "DELETE", "/v1/tokens/x", made)

    records = list(reversed(await guarded.records()))
    assert [(one["action"], one["target"]) for one in records] == wanted
    assert [one["who"] for one in records] == ["admin token file", *["anna"] * (len(wanted) - 1)]
    assert all(one["role"] == "admin" and one["request_id"] and one["at"] for one in records)
    by_action = {one["action"]: one for one in records}
    assert by_action["cancel_job"]["request_id"] == "req-cancel_job"
    assert by_action["submit_jobs"]["detail"] == {"jobs": ids}
    assert by_action["drain_node"]["detail"] == {"name": "n1", "within_s": 3600.0}
    changing = {name for name, least in LEAST.items() if least in (Role.SUBMITTER, Role.OPERATOR, Role.ADMIN)}
    assert changing - {"list_tokens", "list_audit"} == set(by_action), "a route that changes something has no test here"


async def test_what_changes_nothing_leaves_no_record(guarded: Guarded) -> None:
    job = await submitted(guarded, guarded.admin, **{"idempotency-key": "k"})
    assert await submitted(guarded, guarded.admin, **{"idempotency-key": "k"}) == job
    for _ in range(2):
        await guarded.ask(guarded.admin, "POST", f"/v1/jobs/{job}/cancel")
    assert_problem(await guarded.ask(guarded.admin, "DELETE", "/v1/jobs/job_" + "0" * 26), 404)
    assert_problem(await guarded.ask(guarded.admin, "POST", "/v1/nodes/nobody/drain"), 404)
    assert [one["action"] for one in await guarded.records()] == ["cancel_job", "submit_job"]


async def test_without_the_record_there_is_no_change(guarded: Guarded) -> None:
    """The audit table refuses: then nothing else was written either."""
    token = await guarded.make(Role.ADMIN, "eve")
    join = await guarded.make(Role.JOIN, "eve")
    for name in ("n1", "n2", "n3"):
        await guarded.api.register(a_node(name))
    job = await submitted(guarded, token)
    await guarded.api.run(job)
    waits = await submitted(guarded, token)
    conn = guarded.api.ledger.conn
    await conn.execute("UPDATE nodes SET cordoned = true WHERE name = 'n2'")
    await conn.execute("UPDATE nodes SET state = %s WHERE name = 'n3'", (NodeState.LOST,))
    joining = {"node_id": new_id(NODE), "name": "n4", "token_sha256": "a" * 64, "redis_sha256": "b" * 64}
    await conn.execute("ALTER TABLE audit ADD CONSTRAINT not_eve CHECK (who <> 'eve') NOT VALID")
    before = await picture(conn)
    try:
        for method, path, body in (
            ("POST", "/v1/internal/join", joining),
            ("POST", "/v1/jobs", SEED),
            ("POST", "/v1/jobs/batch", {"jobs": [SEED]}),
            ("POST", f"/v1/jobs/{waits}/cancel", None),
            ("POST", f"/v1/jobs/{job}/retry", None),
            ("DELETE", f"/v1/jobs/{job}", None),
            ("POST", "/v1/nodes/n1/cordon", None),
            ("POST", "/v1/nodes/n1/drain", None),
            ("POST", "/v1/nodes/n2/uncordon", None),
            ("POST", "/v1/nodes/n3/forget", None),
            ("POST", "/v1/tokens", {"name": "x", "role": "viewer"}),
            ("DELETE", "/v1/tokens/eve", None),
        ):
            with capture_logs():  # a traceback with all locals, else, and that takes its time
                answer = await guarded.ask(join if "join" in path else token, method, path, json=body)
            assert answer.status_code == 500, (method, path, answer.text)
            assert await picture(conn) == before, (method, path)
    finally:
        await conn.execute("ALTER TABLE audit DROP CONSTRAINT not_eve")


async def picture(conn: psycopg.AsyncConnection[Any]) -> list[Any]:
    found = []
    for table in ("jobs", "tasks", "attempts", "events", "tokens", "audit"):
        row = await (await conn.execute(f"SELECT count(*) FROM {table}")).fetchone()  # pyright: ignore
        found.append(row)
    rows = await (await conn.execute("SELECT id, state, cordoned, draining FROM nodes ORDER BY id")).fetchall()
    tasks = await (await conn.execute("SELECT id, state, version FROM tasks ORDER BY id")).fetchall()
    counted = await (await conn.execute("SELECT id, revoked_at, uses_left FROM tokens ORDER BY id")).fetchall()
    return [found, rows, tasks, counted]


async def test_records_are_found_by_who_what_and_which_and_come_in_pages(guarded: Guarded) -> None:
    token = await guarded.make(Role.SUBMITTER, "paul")
    jobs = [await submitted(guarded, token) for _ in range(5)]
    await guarded.ask(guarded.admin, "POST", f"/v1/jobs/{jobs[0]}/cancel")
    assert len(await guarded.records(who="paul")) == 5
    assert [one["action"] for one in await guarded.records(target=jobs[0])] == ["cancel_job", "submit_job"]
    assert len(await guarded.records(action="create_token")) == 1
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await guarded.ask(guarded.admin, "GET", "/v1/audit", params={"limit": "3"} | cursor)).json()
        seen += [one["id"] for one in answer["records"]]
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": str(answer["next_cursor"])}
    assert len(seen) == 7
    assert seen == sorted(set(seen), reverse=True)


@pytest.mark.parametrize("days", [30.0, 90.0])
async def test_old_records_go(guarded: Guarded, days: float) -> None:
    from windlass.store import audit

    await submitted(guarded, guarded.admin)
    await submitted(guarded, guarded.admin)
    conn = guarded.api.ledger.conn
    await conn.execute("UPDATE audit SET at = now() - interval '60 days' WHERE id = (SELECT min(id) FROM audit)")
    await audit.forget(conn, days)
    assert len(await guarded.records()) == (1 if days < 60 else 2)
