"""The stand-in's node: it runs each Pod bound to it as a container of the Docker Engine, and says what it sees."""

import asyncio
import contextlib
import copy
import re
import time
from dataclasses import dataclass, field
from typing import Any

import aiodocker

from tests.kubernetes.standin.crilog import CriLog
from tests.kubernetes.standin.objects import Store, Thing, now
from windlass.driver.docker_exit import init_refusal

LABEL = "windlass-test-kubernetes"
_NO_IMAGE = "failed to pull and unpack image: failed to resolve reference: not found"
_ROOT = "container has runAsNonRoot and image will run as root"
_NO_COMMAND = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "{}": stat {}: no such file or directory: unknown'
)


@dataclass
class Running:
    """A Pod on the node."""

    task: "asyncio.Task[None] | None" = None
    container: Any = None
    log: CriLog = field(default_factory=CriLog)
    kill_at: float | None = None


class Kubelet:
    """One node. While it is `silent` it goes on running what runs, tells nothing and hears nothing."""

    def __init__(self, store: Store, label: str) -> None:
        self._store, self._label = store, label
        self.docker = aiodocker.Docker()
        self.pods: dict[str, Running] = {}
        self.audible = asyncio.Event()
        self.audible.set()
        self._ends: set[asyncio.Task[None]] = set()

    def bound(self, pod: Thing) -> None:
        """A Pod was given to this node."""
        name = pod["metadata"]["name"]
        self.pods[name] = Running()
        self.pods[name].task = asyncio.create_task(self._live(name))

    def deleting(self, name: str, grace_s: int) -> None:
        """A Pod is to end within that time, or within less than it was told before."""
        running = self.pods.get(name)
        if running is None:
            self._store.delete(name)
            return
        kill_at = time.monotonic() + grace_s
        first = running.kill_at is None
        running.kill_at = min(kill_at, running.kill_at or kill_at)
        if first:
            task = asyncio.create_task(self._end(name, running))
            self._keep(task)

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _end(self, name: str, running: Running) -> None:
        await self.audible.wait()
        if running.container is None and running.task is not None:
            running.task.cancel()  # it is still waiting to start
            self._store.delete(name)
            return
        with contextlib.suppress(aiodocker.DockerError):
            await running.container.kill(signal="SIGTERM")
        while running.kill_at is not None and not running.log.closed:
            if time.monotonic() >= running.kill_at:
                with contextlib.suppress(aiodocker.DockerError):
                    await running.container.kill(signal="SIGKILL")
                break
            await asyncio.sleep(0.05)

    async def _live(self, name: str) -> None:
        running, pod = self.pods[name], self._store.get(name)
        container = pod["spec"]["containers"][0]
        try:
            image = await self.docker.images.inspect(container["image"])
        except aiodocker.DockerError:
            words = f'failed to pull image "{container["image"]}": {_NO_IMAGE}'
            await self.waits(name, "ErrImagePull", words)
            await self.waits(name, "ImagePullBackOff", f'Back-off pulling image "{container["image"]}": {words}')
            return
        if _would_be_root(container, image["Config"].get("User") or ""):
            await self.waits(name, "CreateContainerConfigError", _ROOT)
            return
        running.container = await self.docker.containers.create(
            _container(pod, {LABEL: self._label}), name=f"{self._label}-{name}"
        )
        stream = running.container.attach(stdout=True, stderr=True)
        await stream._init()  # before it starts: no log driver keeps what it prints
        output = asyncio.create_task(_collect(stream, running.log))
        started = now()
        await running.container.start()
        await self._say(name, "Running", {"running": {"startedAt": started}})
        await running.container.wait()
        await output
        running.log.close()
        await self._ended(name, running, started)

    async def _ended(self, name: str, running: Running, started: str) -> None:
        state = (await running.container.show())["State"]
        code = state["ExitCode"]
        end = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "startedAt": started}
        if state["OOMKilled"]:
            end["reason"] = "OOMKilled"
        said = b"".join(entry.data for entry in running.log.entries[-3:]) if code == 127 else b""
        if init_refusal(said):
            command = self._store.get(name)["spec"]["containers"][0]["command"][0]
            end |= {"exitCode": 128, "reason": "StartError", "message": _NO_COMMAND.format(command, command)}
        end["finishedAt"] = now()
        end["containerID"] = f"docker://{running.container.id}"
        await self._say(name, "Succeeded" if code == 0 else "Failed", {"terminated": end})
        if name in self._store.pods and "deletionTimestamp" in self._store.pods[name]["metadata"]:
            self._store.delete(name)

    async def waits(self, name: str, reason: str, message: str) -> None:
        """Say why a container does not start."""
        await self._say(name, "Pending", {"waiting": {"reason": reason, "message": message}})

    async def _say(self, name: str, phase: str, state: dict[str, Any]) -> None:
        await self.audible.wait()
        if name not in self._store.pods:
            return
        pod = copy.deepcopy(self._store.pods[name])
        image = pod["spec"]["containers"][0]["image"]
        pod["status"] |= {
            "phase": phase,
            "containerStatuses": [
                {
                    "name": "job",
                    "image": image,
                    "imageID": "",
                    "ready": "running" in state,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }
        self._store.update(pod)

    async def remove(self, name: str) -> None:
        """Take the container away."""
        running = self.pods.pop(name, None)
        if running is None:
            return
        if running.task is not None:
            running.task.cancel()
        if running.container is not None:
            with contextlib.suppress(aiodocker.DockerError):
                await running.container.delete(force=True, v=True)

    async def close(self) -> None:
        for name in list(self.pods):
            await self.remove(name)
        for task in list(self._ends):
            task.cancel()
        await self.docker.close()


async def _collect(stream: Any, log: CriLog) -> None:
    async with stream:
        while (message := await stream.read_out()) is not None:
            log.write("stdout" if message.stream == 1 else "stderr", message.data)


def _would_be_root(container: Thing, image_user: str) -> bool:
    security = container["securityContext"]
    user = str(security.get("runAsUser", image_user or 0))
    return bool(security.get("runAsNonRoot")) and user in ("", "0", "root")


def _container(pod: Thing, labels: dict[str, str]) -> dict[str, Any]:
    """The Pod's one container for the Docker Engine."""
    spec = pod["spec"]
    container = spec["containers"][0]
    env = {one["name"]: one["value"] for one in container["env"]}
    values: dict[str, str] = {}
    for name, value in env.items():
        values[name] = _expanded(value, values)
    security, limits = container["securityContext"], container["resources"]["limits"]
    body: dict[str, Any] = {
        "Image": container["image"],
        "Env": [f"{name}={value}" for name, value in values.items()],
        "Labels": labels,
        "WorkingDir": container.get("workingDir", ""),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "Init": spec["shareProcessNamespace"],
            "Memory": int(limits["memory"]),
            "MemorySwap": int(limits["memory"]),
            "NanoCpus": int(limits["cpu"].removesuffix("m")) * 10**6,
            "CapDrop": security["capabilities"]["drop"],
            "CapAdd": security["capabilities"].get("add", []),
            "SecurityOpt": [] if security["allowPrivilegeEscalation"] else ["no-new-privileges"],
            "ReadonlyRootfs": security.get("readOnlyRootFilesystem", False),
            "NetworkMode": "none",
            "LogConfig": {"Type": "none"},
            "Tmpfs": {mount["mountPath"]: "mode=1777" for mount in container.get("volumeMounts", [])},
        },
    }
    if "command" in container:
        body["Entrypoint"] = [_expanded(word, values) for word in container["command"]]
    if "args" in container:
        body["Cmd"] = [_expanded(word, values) for word in container["args"]]
    if "runAsUser" in security:
        body["User"] = f"{security['runAsUser']}:{security.get('runAsGroup', 0)}"
    return body


def _expanded(text: str, values: dict[str, str]) -> str:
    """$(NAME) is that variable's value where there is one, and $$ is $."""

    def one(match: "re.Match[str]") -> str:
        return "$" if match[0] == "$$" else values.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, text)
