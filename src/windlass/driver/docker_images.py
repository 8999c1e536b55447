"""Images: one pull per image however many attempts ask for it, with its own time limit and progress."""

import asyncio
import re
from collections.abc import Callable

import aiodocker
import msgspec

from windlass.core.states import Cause
from windlass.driver.base import DriverFault, EngineUnavailable
from windlass.driver.docker_engine import Engine
from windlass.metrics import worker as metrics

Progress = Callable[[str, str], None]  # image, a line for people

_DIGEST = re.compile(r"@[A-Za-z0-9+.-]+:[0-9a-fA-F]+$")
_REPORT_S = 1.0
_USER_KEPT_S = 60.0


class _Detail(msgspec.Struct):
    current: int = 0
    total: int = 0


class _Line(msgspec.Struct):
    """One line of the Engine's progress stream."""

    status: str = ""
    id: str = ""
    error: str = ""
    detail: _Detail | None = msgspec.field(name="progressDetail", default=None)


class _Config(msgspec.Struct):
    user: str = msgspec.field(name="User", default="")


class _Image(msgspec.Struct):
    """The part of GET /images/{name}/json that matters here."""

    config: _Config | None = msgspec.field(name="Config", default=None)


class Images:
    """Brings images to this node. The last one to lose interest in a pull ends it."""

    def __init__(self, engine: Engine, timeout_s: float, progress: Progress | None = None) -> None:
        self._engine, self._timeout_s, self._progress = engine, timeout_s, progress
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, int] = {}
        self._users: dict[str, tuple[float, str]] = {}

    async def pull(self, image: str) -> None:
        """Return when the image is local. Raises DriverFault(IMAGE_PULL) in the engine's words, EngineUnavailable."""
        task = self._running.get(image)
        if task is None:
            task = self._running[image] = asyncio.create_task(self._pull(image), name=f"pull {image}")
        self._waiting[image] = self._waiting.get(image, 0) + 1
        try:
            await asyncio.shield(task)
        finally:
            self._waiting[image] -= 1
            if not self._waiting[image]:
                del self._waiting[image]
                if self._running.get(image) is task:
                    del self._running[image]
                task.cancel()

    async def user(self, image: str) -> str | None:
        """The image's own USER, remembered for a minute; None when the image is not local. Raises EngineUnavailable."""
        now = asyncio.get_running_loop().time()
        self._users = {name: known for name, known in self._users.items() if now - known[0] < _USER_KEPT_S}
        if image not in self._users:
            try:
                found = await self._engine.call("GET", f"/images/{image}/json", _Image)
            except aiodocker.DockerError as refusal:
                if refusal.status == 404:
                    return None
                raise EngineUnavailable(f"cannot look at image {image!r}: {refusal.message}") from refusal
            self._users[image] = (now, found.config.user if found.config else "")
        return self._users[image][1]

    async def _pull(self, image: str) -> None:
        with metrics.PULL.time(), metrics.PULL_FAILURES.count_exceptions(BaseException):
            await self._in_time(image)

    async def _in_time(self, image: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._follow(image)
        except TimeoutError:
            raise DriverFault(
                Cause.IMAGE_PULL, f"image {image!r} was not pulled within {self._timeout_s:g} s"
            ) from None
        except aiodocker.DockerError as refusal:
            raise DriverFault(Cause.IMAGE_PULL, f"cannot pull image {image!r}: {refusal.message}") from refusal

    async def _follow(self, image: str) -> None:
        name, tag = split_reference(image)
        layers: dict[str, _Line] = {}
        next_report = 0.0
        now = asyncio.get_running_loop().time
        async with self._engine.stream("POST", "/images/create", {"fromImage": name, "tag": tag}) as answer:
            async for raw in answer:
                line = msgspec.json.decode(raw, type=_Line) if raw.strip() else _Line()
                if line.error:
                    raise aiodocker.DockerError(500, line.error)
                if line.id and line.status != f"Pulling from {name}":
                    layers[line.id] = line
                if self._progress is not None and now() >= next_report:
                    next_report = now() + _REPORT_S
                    self._progress(image, _summary(layers))


def split_reference(image: str) -> tuple[str, str]:
    """Name and tag as the Engine's pull wants them; without a tag it would pull every one there is."""
    if _DIGEST.search(image):
        return image, ""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def _summary(layers: dict[str, _Line]) -> str:
    done = sum(layer.status in ("Pull complete", "Already exists") for layer in layers.values())
    moving = [layer.detail for layer in layers.values() if layer.detail and layer.status == "Downloading"]
    have, want = (sum(sizes) / 2**20 for sizes in ([d.current for d in moving], [d.total for d in moving]))
    return f"{done} of {len(layers)} layers" + (f", {have:.1f} of {want:.1f} MiB" if moving else "")
