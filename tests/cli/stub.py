"""A server that speaks the API's contract from memory, over real HTTP: the command line's tests say what it holds.

Only the shape of answers is the API's here, none of its rules; those are tested against the real one in tests/system.
"""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
TERMINAL = ("succeeded", "failed", "cancelled")


def a_job(job_id: str = "job_1", state: str = "succeeded", attempts: list[Json] | None = None, **fields: Any) -> Json:
    """A job as the API shows it; `reason`, `explanation` and `ahead` go into its status."""
    status = {"reason": None, "explanation": [], "ahead": None, "retries": 0, "infra_losses": 0}
    status |= {"cancel_requested": False, "attempts": attempts if attempts is not None else []}
    status |= {key: fields.pop(key) for key in ("reason", "explanation", "ahead") if key in fields}
    job = {"id": job_id, "name": None, "state": state, "queue": "default", "labels": {}, "spec": {}}
    job |= {"created_at": "2026-01-02T03:04:05Z", "finished_at": None, "retry_of": None, "status": status}
    return job | fields


def an_attempt(number: int = 1, state: str = "succeeded", **fields: Any) -> Json:
    """An attempt as the API shows it."""
    attempt = {"id": f"att_{number}", "number": number, "node": "n1", "state": state, "exit_code": None, "cause": None}
    attempt |= {"message": None, "placed_at": "2026-01-02T03:04:05Z", "started_at": "2026-01-02T03:04:06Z"}
    return attempt | {"finished_at": "2026-01-02T03:04:07.5Z"} | fields


def ended(exit_code: int | None, cause: str | None = "exit_code", **fields: Any) -> Callable[[Json], None]:
    """What becomes of a submitted job: it ends at once, with this exit code and cause."""

    def become(job: Json) -> None:
        ok = exit_code == 0
        job["state"] = "succeeded" if ok else "failed"
        state = job["state"]
        job["status"]["attempts"] = [
            an_attempt(state=state, exit_code=exit_code, cause=None if ok else cause, **fields)
        ]  # fmt: skip

    return become


def chunk(data: bytes, stream: str = "stdout", attempt: int = 1) -> tuple[str, Json]:
    """A log event."""
    text = base64.b64encode(data).decode()
    return "chunk", {"attempt": attempt, "stream": stream, "offset": 0, "at": "2026-01-02T03:04:06Z", "data": text}


def problem(status: int, detail: str, errors: list[Json] | None = None, **headers: str) -> Response:
    """An error as the API gives it."""
    body = {
        "type": "about:blank",
        "title": "t",
        "status": status,
        "detail": detail,
        "code": "c",
        "errors": errors or [],
    }
    return JSONResponse(
        body | {"request_id": "req_1"}, status, media_type="application/problem+json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )  # fmt: skip


class Stub:
    """The server and what it holds. `fail` is asked before every answer and may give another."""

    def __init__(self) -> None:
        self.url = ""
        self.clear()

    def clear(self) -> None:
        """Hold nothing, keep no requests."""
        self.jobs: dict[str, Json] = {}
        self.nodes: list[Json] = []
        self.cluster: Json = {}
        self.output: list[tuple[str, Json]] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.become: Callable[[Json], None] = ended(0)
        self.fail: Callable[[Request], Response | None] = lambda request: None
        self.cut_after: int | None = None

    def seen(self, method: str, path: str) -> list[bytes]:
        """The bodies of the requests so far of this kind."""
        return [body for m, p, _, body in self.requests if (m, p) == (method, path)]

    def submit(self, spec: Json, key: str = "") -> Json:
        job = a_job(f"job_{len(self.jobs) + 1}", "queued", spec=spec, labels=spec.get("labels", {}))
        job["name"] = spec.get("name")
        self.become(job)
        self.jobs[job["id"]] = job
        return job


def the_app(stub: Stub) -> Starlette:
    async def guarded(request: Request) -> Response:
        body = await request.body()
        stub.requests.append((request.method, request.url.path, dict(request.headers), body))
        other = stub.fail(request)
        if other is not None:
            return other
        return await handlers[request.method, request.scope["name"]](request, body)

    async def create(request: Request, body: bytes) -> Response:
        return refusal(json.loads(body)) or JSONResponse(stub.submit(json.loads(body)), 201)

    async def batch(request: Request, body: bytes) -> Response:
        results: list[Json] = []
        for spec in json.loads(body)["jobs"]:
            refused = refusal(spec)
            results.append({"error": json.loads(refused.body)} if refused else {"id": stub.submit(spec)["id"]})
        return JSONResponse({"results": results})

    async def jobs(request: Request, body: bytes) -> Response:
        q = request.query_params
        found = [job for job in reversed(stub.jobs.values()) if q.get("state") in (None, job["state"])]
        for label in q.getlist("label"):
            key, _, value = label.partition("=")
            found = [job for job in found if job["labels"].get(key) == value]
        start, limit = int(q.get("cursor") or 0), min(int(q.get("limit") or 50), 50)
        more = str(start + limit) if len(found) > start + limit else None
        return JSONResponse({"jobs": found[start : start + limit], "next_cursor": more})

    async def job(request: Request, body: bytes) -> Response:
        found = stub.jobs.get(request.path_params["id"])
        if found is None:
            return problem(404, f"no job {request.path_params['id']!r}")
        end = time.monotonic() + float(request.query_params.get("wait") or 0)
        while found["state"] not in TERMINAL and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return JSONResponse(found)

    async def cancel(request: Request, body: bytes) -> Response:
        found = stub.jobs[request.path_params["id"]]
        if found["state"] not in TERMINAL:
            found["state"] = "cancelled"
        return JSONResponse(found, 202)

    async def retry(request: Request, body: bytes) -> Response:
        old = stub.jobs[request.path_params["id"]]
        if old["state"] not in TERMINAL:
            return problem(409, f"{old['id']} is {old['state']}")
        return JSONResponse(stub.submit(old["spec"]) | {"retry_of": old["id"]}, 201)

    async def delete(request: Request, body: bytes) -> Response:
        del stub.jobs[request.path_params["id"]]
        return Response(status_code=204)

    async def logs(request: Request, body: bytes) -> Response:
        found = stub.jobs[request.path_params["id"]]
        first = int(request.headers.get("last-event-id") or 0)
        return StreamingResponse(
            log_events(found, first, "follow" in request.query_params), media_type="text/event-stream"
        )

    async def log_events(found: Json, first: int, follow: bool) -> AsyncIterator[str]:
        yield ": keep-alive\n\n"
        cut, stub.cut_after = stub.cut_after, None
        for at, (event, data) in enumerate(stub.output[first:], first + 1):
            yield f"event: {event}\nid: {at}\ndata: {json.dumps(data)}\n\n"
            if at == cut:
                return
        while follow and found["state"] not in TERMINAL:
            await asyncio.sleep(0.02)
        yield f"event: end\ndata: {json.dumps({'state': found['state']})}\n\n"

    async def nodes(request: Request, body: bytes) -> Response:
        return JSONResponse({"nodes": stub.nodes})

    async def node(request: Request, body: bytes) -> Response:
        return JSONResponse(_node(request))

    async def cordon(request: Request, body: bytes) -> Response:
        return JSONResponse(_node(request) | {"cordoned": True})

    async def uncordon(request: Request, body: bytes) -> Response:
        return JSONResponse(_node(request))

    async def drain(request: Request, body: bytes) -> Response:
        _node(request).update(cordoned=True, draining=True)
        return JSONResponse(_node(request))

    async def forget(request: Request, body: bytes) -> Response:
        return Response(status_code=204)

    def _node(request: Request) -> Json:
        return next(node for node in stub.nodes if node["name"] == request.path_params["id"])

    async def cluster(request: Request, body: bytes) -> Response:
        return JSONResponse(stub.cluster)

    async def version(request: Request, body: bytes) -> Response:
        return JSONResponse({"version": "9.9.9"})

    handlers = {
        ("POST", "jobs"): create, ("POST", "batch"): batch, ("GET", "jobs"): jobs, ("GET", "job"): job,
        ("DELETE", "job"): delete, ("POST", "cancel"): cancel, ("POST", "retry"): retry, ("GET", "logs"): logs,
        ("GET", "nodes"): nodes, ("GET", "version"): version, ("GET", "cluster"): cluster,
        ("GET", "node"): node, ("POST", "cordon"): cordon, ("POST", "uncordon"): uncordon, ("POST", "drain"): drain,
        ("POST", "forget"): forget,
    }  # fmt: skip
    paths = {"jobs": "/v1/jobs", "batch": "/v1/jobs/batch", "job": "/v1/jobs/{id}", "nodes": "/v1/nodes"}
    paths |= {"version": "/version", "cluster": "/v1/cluster"} | {
        verb: f"/v1/jobs/{{id}}/{verb}" for verb in ("cancel", "retry", "logs")
    }
    paths |= {"node": "/v1/nodes/{id}"} | {
        verb: f"/v1/nodes/{{id}}/{verb}" for verb in ("cordon", "uncordon", "drain", "forget")
    }

    methods = ["GET", "POST", "DELETE"]
    return Starlette(routes=[Route(path, _endpoint(name, guarded), methods=methods) for name, path in paths.items()])


def _endpoint(name: str, guarded: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        request.scope["name"] = name
        return await guarded(request)

    return endpoint


def refusal(spec: Json) -> Response | None:
    """The one rule here: a cpu of "lots" is refused."""
    if spec.get("resources", {}).get("cpu") != "lots":
        return None
    fault = {
        "field": "resources.cpu",
        "pointer": "/resources/cpu",
        "message": "write cores as a number",
        "value": "lots",
    }
    return problem(422, "the spec is not valid", [fault])


class Serving:
    """The stub behind uvicorn in a thread, on this port or one of its own."""

    def __init__(self, stub: Stub, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        stub.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(uvicorn.Config(the_app(stub), log_level="critical", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
