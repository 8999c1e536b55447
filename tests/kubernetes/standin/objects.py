"""The API server's store: Pods by name, each change with a number, and those who watch."""

import asyncio
import copy
import datetime
import uuid
from collections.abc import Mapping
from typing import Any

from tests.kubernetes.schemas import all_faults

Thing = dict[str, Any]


class Refused(Exception):
    """An answer other than success, as a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
        }


def now(seconds: float = 0.0) -> str:
    """A moment as Kubernetes writes it, some seconds from now."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


class Store:
    """The Pods of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.version = 100
        self.oldest = 100  # changes before this one are no longer told
        self.pods: dict[str, Thing] = {}
        self._changes: list[tuple[int, str, Thing]] = []
        self._watchers: set[asyncio.Queue[tuple[str, Thing]]] = set()

    def get(self, name: str) -> Thing:
        if name not in self.pods:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        return self.pods[name]

    def create(self, pod: Thing) -> Thing:
        name = pod["metadata"]["name"]
        if name in self.pods:
            raise Refused(409, "AlreadyExists", f'pods "{name}" already exists')
        pod["metadata"] |= {"namespace": self.namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now()}
        return self._change("ADDED", pod)

    def update(self, pod: Thing) -> Thing:
        """Keep this state of a Pod, unless it is gone."""
        return self._change("MODIFIED", pod) if pod["metadata"]["name"] in self.pods else pod

    def delete(self, name: str) -> None:
        if name in self.pods:
            self._change("DELETED", self.pods[name])
            del self.pods[name]

    def _change(self, kind: str, pod: Thing) -> Thing:
        self.version += 1
        pod = copy.deepcopy(pod)
        pod["metadata"]["resourceVersion"] = str(self.version)
        assert not (found := all_faults(pod)), found
        self.pods[pod["metadata"]["name"]] = pod
        self._changes.append((self.version, kind, pod))
        for watcher in self._watchers:
            watcher.put_nowait((kind, pod))
        return pod

    def chosen(self, selector: Mapping[str, str]) -> list[Thing]:
        return [pod for pod in self.pods.values() if matches(pod, selector)]

    def watch(self, since: int) -> "asyncio.Queue[tuple[str, Thing]]":
        """All changes after that one. Raises Refused(410) when history does not reach so far."""
        if since < self.oldest:
            raise Refused(410, "Expired", f"too old resource version: {since} ({self.oldest})")
        queue = asyncio.Queue[tuple[str, Thing]]()
        for version, kind, pod in self._changes:
            if version > since:
                queue.put_nowait((kind, pod))
        self._watchers.add(queue)
        return queue

    def unwatch(self, queue: "asyncio.Queue[tuple[str, Thing]]") -> None:
        self._watchers.discard(queue)

    def compact(self) -> None:
        """Forget history, as etcd does every few minutes; who watches is told 410 Gone."""
        self.version += 1
        self.oldest = self.version
        self._changes.clear()
        gone = Refused(410, "Expired", "too old resource version").status
        for watcher in self._watchers:
            watcher.put_nowait(("ERROR", gone))


def matches(pod: Thing, selector: Mapping[str, str]) -> bool:
    labels = pod["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in selector.items())
