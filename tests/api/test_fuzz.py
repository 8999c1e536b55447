"""What nobody would send: every operation by schemathesis, specs by hypothesis. Never a 5xx, never an untrue answer."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.serving import SEED, assert_problem, serving, settings_for
from tests.api.test_openapi import OPERATIONS
from tests.conftest import Servers
from tests.support import HANG_S
from windlass.core.fields import FIELDS

BOUNDED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture(scope="module")
def base_url(servers: Servers, module_database: str) -> Iterator[str]:
    """An API on a loop of its own thread, for tests that have none."""
    chosen = settings_for(module_database, servers.valkey_url)
    with servers.portal.wrap_async_context_manager(serving(chosen)) as api:
        yield f"http://127.0.0.1:{api.port}"


@pytest.fixture(scope="module")
def document(base_url: str) -> Any:
    return schemathesis.openapi.from_url(f"{base_url}/openapi.json")


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS - {"watch_events"}))
def test_every_operation_keeps_its_description(document: Any, client: httpx2.Client, operation_id: str):
    waits, ended = (client.post("/v1/jobs", json=SEED).json()["id"] for _ in range(2))
    client.post(f"/v1/jobs/{ended}/cancel")

    @BOUNDED
    @given(case=document.find_operation_by_id(operation_id).as_strategy(), job=st.sampled_from([waits, ended, None]))
    def play(case: Any, job: str | None) -> None:
        if job is not None and "job_id" in (case.path_parameters or {}):
            case.path_parameters["job_id"] = job
        # what waits for jobs that nobody runs is left out, and what the client itself must get right
        case.query = {k: v for k, v in (case.query or {}).items() if k not in ("follow", "wait")}
        case.headers = {k: v for k, v in (case.headers or {}).items() if k.lower() not in ("host", "content-type")}
        case.call_and_validate(checks=CHECKS, timeout=HANG_S)

    play()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from([*FIELDS]) | st.text(max_size=6), anything, max_size=6)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=anything | fields | fields.map(lambda given: SEED | given))
def test_no_document_brings_the_api_down(base_url: str, client: httpx2.Client, document: Any):
    import msgspec

    try:
        body = msgspec.json.encode(document)
    except (UnicodeEncodeError, OverflowError):
        return
    answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    if answer.status_code == 201:
        repeat(client, answer.json())
    else:
        assert_problem(answer, answer.status_code)
        assert answer.status_code in (400, 422)


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=base_url, timeout=HANG_S) as http:
        yield http


def repeat(client: httpx2.Client, job: dict[str, Any]) -> None:
    """What was accepted is shown as accepted, and is a valid job of the same meaning again."""
    found = client.get(f"/v1/jobs/{job['id']}").json()
    assert found["spec"] == job["spec"]
    again = client.post("/v1/jobs", json=found["spec"])
    assert again.status_code == 201, again.text
    assert again.json()["spec"] == job["spec"]


words = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12), min_size=1
)
durations = st.floats(0.001, 3e8) | st.integers(1, 3 * 10**8) | st.sampled_from(["90s", "1h30m", "250ms", "1d", "0.5s"])
sizes = st.integers(1, 2**60) | st.sampled_from(["512Mi", "1.5Gi", "1G", "100k"])
names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
resources = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.integers(1, 10**8).map(lambda millis: f"{millis}m") | st.integers(1, 10**5),
        "memory": sizes,
        "pids": st.integers(1, 32_768),
        "shm_size": sizes,
    },
)
valid = st.fixed_dictionaries(
    {"image": names.map(str.lower)},
    optional={
        "name": names,
        "command": words,
        "args": words,
        "env": st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True), words.map("".join)),
        "workdir": st.from_regex(r"/[a-z/.]{0,20}", fullmatch=True),
        "resources": resources,
        "max_retries": st.integers(0, 100),
        "backoff": st.fixed_dictionaries(
            {}, optional={"initial": durations, "factor": st.floats(1, 100), "jitter": st.floats(0, 1)}
        ),
        "priority": st.integers(-1000, 1000),
        "labels": st.dictionaries(names, names, max_size=5),
        "exclusive": st.booleans(),
        **dict.fromkeys(["attempt_timeout", "job_deadline", "queue_timeout", "start_timeout", "stop_grace"], durations),
        "ttl_after_finished": durations,
    },
)  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=valid)
def test_what_is_valid_is_accepted_and_read_back_the_same(client: httpx2.Client, spec: dict[str, Any]):
    answer = client.post("/v1/jobs", json=spec)
    assert answer.status_code == 201, answer.text
    repeat(client, answer.json())
