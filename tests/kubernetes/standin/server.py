"""The stand-in's API server: the routes Windlass uses, over real HTTP; and the cluster as a test holds it."""

import asyncio
import contextlib
import copy
import json
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any, TypeVar

from aiohttp import web

from tests.kubernetes.schemas import all_faults
from tests.kubernetes.standin.kubelet import Kubelet
from tests.kubernetes.standin.objects import Refused, Store, Thing, merge, now
from windlass.driver.kubernetes_quota import amount

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


class Cluster:
    """A cluster of one namespace and one node, in a thread of its own."""

    def __init__(
        self,
        *,
        namespace: str = "jobs",
        split_streams: bool = True,
        minor: str = "37",
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.namespace, self.split_streams, self.minor = namespace, split_streams, minor
        self.host, self.tls = host, tls
        self.label = f"standin-{uuid.uuid4().hex[:8]}"
        self.token = "a-token"
        self.quotas: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []  # "METHOD path" of every request, in order
        self.rights: set[tuple[str, str]] = set()  # (verb, resource) of every request, as a Role names them
        self.full = False  # no node has room
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self.port = 0

    def __enter__(self) -> "Cluster":
        self._thread.start()
        self.run(self._make())
        self.serve()
        return self

    async def _make(self) -> None:
        self.store = Store(self.namespace)
        self.kubelet = Kubelet(self.store, self.label)

    def __exit__(self, *_: object) -> None:
        self.go_away()
        self.run(self.kubelet.close())
        self.run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in the cluster's own thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}"

    # -- the API server as a process

    def serve(self) -> None:
        """Answer, at the same address as before."""
        self.run(self._serve())

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._answering])
        below = f"/api/v1/namespaces/{self.namespace}"
        app.add_routes(
            [
                web.get("/version", self._version),
                web.get(f"{below}/resourcequotas", self._list_quotas),
                web.get(f"{below}/pods", self._list),
                web.post(f"{below}/pods", self._post),
                web.get(f"{below}/pods/{{name}}", self._get),
                web.patch(f"{below}/pods/{{name}}", self._patch),
                web.delete(f"{below}/pods/{{name}}", self._delete),
                web.get(f"{below}/pods/{{name}}/log", self._log),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
        await self._runner.setup()
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((self.host, self.port))
        self.port = door.getsockname()[1]
        await web.SockSite(self._runner, door, ssl_context=self.tls).start()

    @property
    def serving(self) -> bool:
        """Whether it answers."""
        return self._runner is not None

    def go_away(self) -> None:
        """Stop to answer, and cut every connection; the node goes on."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self.run(_cut(runner))

    @web.middleware
    async def _answering(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        self._note_right(request)
        try:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            return await handler(request)
        except Refused as refusal:
            return web.json_response(refusal.status, status=refusal.code)

    def _note_right(self, request: web.Request) -> None:
        _, _, below = request.path.partition(f"/namespaces/{self.namespace}/")
        resource, _, rest = below.partition("/")
        name, _, part = rest.partition("/")
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get" if name else "list")
        if below:
            self.rights.add(("watch" if "watch" in request.query else verb, f"{resource}/{part}" if part else resource))

    # -- routes

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": self.minor, "gitVersion": f"v1.{self.minor}.0"})

    async def _list_quotas(self, request: web.Request) -> web.Response:
        used = self._used()
        items = [
            {
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"hard": hard},
                "status": {"hard": hard, "used": {key: str(used.get(key, 0)) for key in hard}},
            }
            for name, hard in self.quotas.items()
        ]
        return _checked({"apiVersion": "v1", "kind": "ResourceQuotaList", "metadata": {}, "items": items})

    def _used(self) -> dict[str, Decimal]:
        used: dict[str, Decimal] = {}
        for pod in self.store.pods.values():
            if pod["status"]["phase"] in ("Succeeded", "Failed"):
                continue
            for kind in ("requests", "limits"):
                for resource, value in pod["spec"]["containers"][0]["resources"][kind].items():
                    key = f"{kind}.{resource}"
                    used[key] = used.get(key, Decimal(0)) + amount(value)
            used["pods"] = used.get("pods", Decimal(0)) + 1
        return used

    async def _list(self, request: web.Request) -> web.StreamResponse:
        selector = dict(part.split("=", 1) for part in request.query.get("labelSelector", "").split(",") if part)
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request, selector)
        meta = {"resourceVersion": str(self.store.version)}
        return _checked({"apiVersion": "v1", "kind": "PodList", "metadata": meta, "items": self.store.chosen(selector)})

    async def _watch(self, request: web.Request, selector: dict[str, str]) -> web.StreamResponse:
        queue = self.store.watch(int(request.query["resourceVersion"]))
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                while True:
                    kind, thing = await queue.get()
                    labels = thing["metadata"].get("labels", {})
                    if kind == "ERROR" or all(labels.get(key) == value for key, value in selector.items()):
                        await answer.write(json.dumps({"type": kind, "object": thing}).encode() + b"\n")
                    if kind == "ERROR":
                        break
        except TimeoutError:
            pass
        finally:
            self.store.unwatch(queue)
        return answer

    async def _post(self, request: web.Request) -> web.Response:
        pod = await request.json()
        if found := all_faults(pod):
            raise Refused(422, "Invalid", f"Pod is invalid: {found}")
        name, labels = pod["metadata"]["name"], pod["metadata"].get("labels", {})
        if not _NAME.fullmatch(name) or not all(_LABEL.fullmatch(value) for value in labels.values()):
            raise Refused(422, "Invalid", f'Pod "{name}" is invalid: metadata')
        self._admit(pod)
        gate = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
        pod["status"] = {"phase": "Pending", "conditions": [gate]}
        return _checked(self.store.create(pod), 201)

    def _admit(self, pod: Thing) -> None:
        name, used = pod["metadata"]["name"], self._used()
        asked = {"pods": Decimal(1)}
        for kind in ("requests", "limits"):
            for resource, value in pod["spec"]["containers"][0]["resources"][kind].items():
                asked[f"{kind}.{resource}"] = amount(value)
        for quota, hard in self.quotas.items():
            for key, most in hard.items():
                if used.get(key, Decimal(0)) + asked.get(key, Decimal(0)) > amount(most):
                    words = f"requested: {key}={asked[key]}, used: {key}={used.get(key, 0)}, limited: {key}={most}"
                    raise Refused(403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: {quota}, {words}')

    async def _get(self, request: web.Request) -> web.Response:
        return _checked(self.store.get(request.match_info["name"]))

    async def _patch(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/merge-patch+json"
        before = self.store.get(request.match_info["name"])
        after = merge(before, await request.json())
        gates = after["spec"].pop("schedulingGates", None)
        if gates is None and "schedulingGates" in before["spec"]:
            before = copy.deepcopy(before)
            del before["spec"]["schedulingGates"]
        if after["spec"] != before["spec"]:
            raise Refused(422, "Invalid", "pod updates may not change fields other than spec.schedulingGates")
        pod = self.store.update(after)
        if gates is None and "nodeName" not in pod["spec"]:
            self._schedule(pod)
        return _checked(pod)

    def _schedule(self, pod: Thing) -> None:
        pod = copy.deepcopy(pod)
        if self.full:
            words = {"reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}
            pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False"} | words]
            self.store.update(pod)
            return
        pod["spec"]["nodeName"] = "node-1"
        pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
        self.kubelet.bound(self.store.update(pod))

    async def _delete(self, request: web.Request) -> web.Response:
        options = await request.json()
        assert not (found := all_faults(options)), found
        name = request.match_info["name"]
        self.store.get(name)
        await self.delete(name, options["gracePeriodSeconds"])
        return web.json_response({"apiVersion": "v1", "kind": "Status", "status": "Success"})

    async def delete(self, name: str, grace_s: int) -> None:
        pod = copy.deepcopy(self.store.get(name))
        ended = pod["status"]["phase"] in ("Succeeded", "Failed")
        if ended or grace_s == 0 or "nodeName" not in pod["spec"]:
            self.store.delete(name)
            await self.kubelet.remove(name)
            return
        meta = pod["metadata"]
        if meta.get("deletionGracePeriodSeconds", grace_s + 1) > grace_s:
            meta |= {"deletionTimestamp": now(grace_s), "deletionGracePeriodSeconds": grace_s}
            self.store.update(pod)
        self.kubelet.deleting(name, grace_s)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        name, query = request.match_info["name"], request.query
        pod = self.store.get(name)
        if "stream" in query and not self.split_streams:
            raise Refused(422, "Invalid", 'PodLogOptions "" is invalid: stream: Forbidden: may not be specified')
        if not self.kubelet.audible.is_set():
            raise Refused(500, "InternalError", 'Get "https://node-1:10250/containerLogs": dial tcp: no route to host')
        running = self.kubelet.pods.get(name)
        if running is None or running.container is None or "containerStatuses" not in pod["status"]:
            raise Refused(400, "BadRequest", f'container "job" in pod "{name}" is waiting to start: ContainerCreating')
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        pieces = running.log.read(
            follow=query.get("follow") == "true",
            timestamps=query.get("timestamps") == "true",
            since=query.get("sinceTime", ""),
            only=query["stream"].lower() if "stream" in query else None,
            limit=int(query["limitBytes"]) if "limitBytes" in query else None,
        )
        async with contextlib.aclosing(pieces):
            with contextlib.suppress(ConnectionError):  # nobody reads on
                async for piece in pieces:
                    await answer.write(piece)
        return answer


async def _cut(runner: web.AppRunner) -> None:
    """End it with every connection, those too that were being accepted as the door closed."""
    for site in list(runner.sites):
        await site.stop()
    for _ in range(3):  # a connection is made two turns of the loop after it was accepted
        await asyncio.sleep(0)
    await runner.cleanup()


async def _end_all() -> None:
    """End what still runs on this loop, such as a stream that nobody reads."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _checked(thing: Thing, status: int = 200) -> web.Response:
    """An answer that is what Kubernetes' schemas say."""
    assert not (found := all_faults(thing)), found
    return web.json_response(thing, status=status)
