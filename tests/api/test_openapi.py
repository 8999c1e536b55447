"""The OpenAPI document: complete, with examples, and true of what is answered."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.serving import Api
from windlass.api.manual import ASSETS

OPERATIONS = {
    "submit_job", "submit_jobs", "list_jobs", "get_job", "cancel_job", "retry_job", "delete_job", "get_logs",
    "get_job_events", "watch_events", "list_nodes", "get_node", "cordon_node",
    "uncordon_node", "drain_node", "forget_node", "get_cluster", "get_scaling", "create_token", "list_tokens",
    "revoke_token", "whoami", "list_audit", "livez", "readyz", "version", "metrics",
}  # fmt: skip


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    return (await api.http.get("/openapi.json")).json()


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in document["paths"].values():
        yield from item.values()


async def test_every_operation_is_described(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1")
    assert {o["operationId"] for o in operations(document)} == OPERATIONS
    for operation in operations(document):
        name = operation["operationId"]
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        for parameter in operation.get("parameters", []):
            assert parameter["schema"], (name, parameter)
    assert not [path for path in document["paths"] if "internal" in path]


async def test_failures_are_described_as_problems(document: dict[str, Any]):
    for operation in operations(document):
        for status, response in operation["responses"].items():
            assert response["description"], (operation["operationId"], status)
            if status >= "400" and operation["operationId"] != "readyz":
                assert list(response["content"]) == ["application/problem+json"], (operation["operationId"], status)
                assert response["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")


async def test_the_spec_has_examples_that_are_accepted(api: Api, document: dict[str, Any]):
    schema = document["components"]["schemas"]["JobSpec"]
    assert {"image": "ubuntu", "command": ["bash", "-c", "ls -la && echo done"]} in schema["examples"]
    for example in schema["examples"]:
        assert (await api.http.post("/v1/jobs", json=example)).status_code == 201
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field["description"], name
    for name, model in document["components"]["schemas"].items():
        if name in ("Job", "Attempt", "Node", "Problem", "Event"):
            assert any("examples" in p for p in model["properties"].values()), name


async def test_every_reference_leads_somewhere(document: dict[str, Any]):
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


async def test_the_page_for_people_needs_no_other_site(api: Api):
    page = await api.http.get("/docs")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert set(named) == {f"docs/{asset}" for asset in ASSETS}
    for asset, kind in ASSETS.items():
        part = await api.http.get(f"/docs/{asset}")
        assert (part.status_code, part.headers["content-type"].partition(";")[0]) == (200, kind)
    assert (await api.http.get("/docs/no-such-part")).status_code == 404
