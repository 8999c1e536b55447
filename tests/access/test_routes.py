"""Every route, with every role, with none, and with tokens that open nothing: what the table says, and nothing else."""

import re
from collections.abc import Iterable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from tests.access.conftest import Guarded
from tests.api.serving import assert_problem
from windlass.api.access import LEAST, PAGES
from windlass.api.app import make_app
from windlass.core.access import LADDER, Role, may
from windlass.core.ids import ATTEMPT, JOB
from windlass.mint import new_id, new_token
from windlass.settings import Settings

APP: FastAPI = make_app(Settings())


def walk(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Every route, those of included routers too, which newer versions of FastAPI keep in one entry."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from walk(included.routes)


ALL = list(walk(APP.routes))
ROUTES = [route for route in ALL if isinstance(route, APIRoute)]
#: A name for each part of a path that leads nowhere: what is let in finds nothing, and changes nothing.
NOWHERE = {
    "job_id": new_id(JOB),
    "attempt_id": new_id(ATTEMPT),
    "node": "nobody",
    "token": "nobody",
    "asset": "nothing",
}


def test_every_route_declares_its_least_role_and_every_declaration_is_of_a_route() -> None:
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)
    assert set(names) == LEAST.keys(), "declare new routes in LEAST (api/access.py), and take old ones out"
    others = {route.path for route in ALL if not isinstance(route, APIRoute) and isinstance(route, Route)}
    assert others == PAGES
    assert all(isinstance(route, Route) for route in ALL), "something is mounted that no guard watches"


def test_the_document_says_who_may_what() -> None:
    document = APP.openapi()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path in document["paths"].values():
        for operation in path.values():
            least = LEAST[operation["operationId"]]
            assert operation.get("x-least-role") == least
            assert operation["security"] == ([] if least is None else [{"token": []}])
            assert least is None or {"401", "403"} <= operation["responses"].keys()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_a_route_is_open_to_those_it_declares_and_to_nobody_else(guarded: Guarded, route: APIRoute) -> None:
    least = LEAST[route.name]
    path = re.sub(r"{(\w+)}", lambda found: NOWHERE[found[1]], route.path)
    callers = {"nobody": "", "unknown": new_token(Role.ADMIN), "mistyped": "wl_" + "a" * 38}
    callers |= {role: await guarded.make(role) for role in Role}
    for method in route.methods:
        for who, token in callers.items():
            headers = {"authorization": f"Bearer {token}"} if token else {}
            async with guarded.api.http.stream(method, path, headers=headers) as answer:
                if answer.status_code in (401, 403):
                    await answer.aread()
                    assert_problem(answer, answer.status_code)
                told = (who, method, path, answer.status_code)
                if least is None:
                    assert answer.status_code not in (401, 403), told
                elif who in list(Role):
                    assert (answer.status_code == 403) is not may(Role(who), least), told
                    assert answer.status_code != 401, told
                else:
                    assert answer.status_code == 401, told
                    assert answer.headers["www-authenticate"].startswith("Bearer"), told


def test_each_role_may_what_those_before_it_may() -> None:
    for held in Role:
        for least in Role:
            higher = held in LADDER and least in LADDER and LADDER.index(held) >= LADDER.index(least)
            assert may(held, least) is (higher or held is least)


async def test_a_refusal_says_what_to_do(guarded: Guarded) -> None:
    refused = await guarded.ask("", "GET", "/v1/jobs")
    assert_problem(refused, 401, "WINDLASS_TOKEN")
    viewer = await guarded.make(Role.VIEWER, "peter")
    refused = await guarded.ask(viewer, "POST", "/v1/jobs", json={"image": "x"})
    assert_problem(refused, 403, "windlass token create --role submitter")
    assert "'peter'" in refused.text
    assert_problem(await guarded.ask(viewer[:-1] + "!", "GET", "/v1/jobs"), 401, "cut or mistyped")
    assert_problem(await guarded.ask(new_token(Role.ADMIN), "GET", "/v1/jobs"), 401, "not known here")


async def test_a_body_is_not_read_before_it_is_known_who_sends_it(guarded: Guarded) -> None:
    assert_problem(await guarded.ask("", "POST", "/v1/jobs/batch", content=b"x" * 100), 401)
