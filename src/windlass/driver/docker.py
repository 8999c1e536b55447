"""The Docker driver: one container per attempt, named by the attempt's id, through the Engine API.

Calls per attempt, when all goes well: create, start, inspect for the exit code, read the logs once, delete. No image is
looked up beforehand: create says when it is missing. Endings come from one shared stream (docker_endings).

Infrastructure is told apart from the job: while the engine is away, `wait` and `logs` wait for it; a container that is
gone, or was taken down with the engine or the machine, is NODE_LOST, so that the job's own retries are not charged
(taken_down). No such claim is made for one that was stopped on request.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiodocker

from windlass import tracing
from windlass.core.ids import AttemptId
from windlass.core.states import Cause
from windlass.driver.base import AnswerLost, Chunk, DriverFault, EngineUnavailable, Facts, Outcome, Survivor, Ticket
from windlass.driver.docker_calls import unbroken, within
from windlass.driver.docker_endings import Endings
from windlass.driver.docker_engine import CALL_S, Engine, container
from windlass.driver.docker_exit import Inspected, State, clock, init_refusal, outcome_of, start_fault
from windlass.driver.docker_images import Images, Progress
from windlass.driver.docker_logs import STREAMS, Cursor, Demultiplexer, Mark, MarkBook, read_from
from windlass.driver.docker_orphans import kill_unknown
from windlass.driver.docker_profile import (
    ATTEMPT,
    CLUSTER,
    FENCE,
    NODE,
    Profile,
    bind_mounts,
    container_body,
    ownership,
)
from windlass.driver.taken_down import taken_down, unseen

_SLOW_CALL_S = 120.0  # create, start and delete on a busy disk
_STOP_SLACK_S = 30.0
_FOLLOW_AFTER_S = 0.25  # most jobs that end sooner cost one read of their log instead of a stream and a read
_RETRY_S = 0.25
#: Told the engine's address, and the labels of this node's containers there.
Guard = Callable[[str, Sequence[str]], None]
_NOT_RUNNING = ("created", "exited", "dead", "removing")


class DockerDriver:
    """Runs attempts as containers of one Docker Engine (API 1.41 or later).

    `volumes_allowed` are the folders of the node that jobs may mount; `restricted_network` lets jobs have the bridge
    network under the restricted profile; `progress` is told about pulls, at most once a second each.
    """

    name = "docker"
    keeps_outcome = True
    watched = True

    def __init__(
        self,
        *,
        cluster: str,
        node_id: str,
        profile: Profile = Profile.STANDARD,
        volumes_allowed: tuple[str, ...] = (),
        restricted_network: bool = False,
        pull_timeout_s: float = 600.0,
        progress: Progress | None = None,
        url: str | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`guard` is told where the engine is, and which containers there are ours."""
        self._cluster, self._node_id, self._profile = cluster, node_id, profile
        self._volumes_allowed, self._restricted_network = volumes_allowed, restricted_network
        self._engine = Engine(url)
        self._images = Images(self._engine, pull_timeout_s, progress)
        self._labels = {CLUSTER: cluster, NODE: node_id}
        self._endings = Endings(self._engine, self._labels)
        self._guard = guard
        self._created: set[AttemptId] = set()  # by this process, and never started
        self._started: set[AttemptId] = set()  # by this process, and not waited for yet

    async def open(self) -> None:
        """Connect, and listen for endings. Raises EngineUnavailable."""
        await self._engine.open()
        self._endings.open()
        if self._guard is not None and (address := self._engine.address) is not None:
            self._guard(address, [f"{key}={value}" for key, value in self._labels.items()])

    async def close(self) -> None:
        """Let go of connections; containers go on."""
        await self._endings.close()
        await self._engine.close()

    async def facts(self) -> Facts:
        """Whether the engine answers, and its versions."""
        try:
            version = await self._engine.open()
        except EngineUnavailable as away:
            return Facts(available=False, detail=str(away))
        versions = {str(part.get("Name", "")).lower(): str(part.get("Version", "")) for part in version.components}
        return Facts(available=True, versions={"engine": version.engine, "api": version.api} | versions)

    def never_started(self, attempt_id: AttemptId, launched_at: float) -> bool:
        """A missing container may have run and been removed by someone."""
        return False

    async def prepare(self, ticket: Ticket) -> None:
        """Create the container, pulling its image only if the engine lacks it."""
        if await self._create(ticket):
            return
        assert ticket.spec.image is not None
        with tracing.step("pull", {"container.image.name": ticket.spec.image}):
            await self._images.pull(ticket.spec.image)
        if not await self._create(ticket):
            raise DriverFault(Cause.IMAGE_PULL, f"image {ticket.spec.image!r} was pulled and is not there")

    async def start(self, ticket: Ticket) -> None:
        """Start it, once in its life. When the engine's answer is lost, it may run: `wait` finds out."""
        name = ticket.attempt_id
        if name not in self._created and (await self._inspect(name)).state.status != "created":
            return
        self._created.discard(name)
        self._endings.expect(name)
        try:
            await self._engine.call("POST", container(name, "/start"), deadline_s=_SLOW_CALL_S)
        except aiodocker.DockerError as refusal:
            self._endings.forget(name)
            raise start_fault(refusal) from refusal
        except EngineUnavailable as away:
            self._endings.outages.away()
            if not isinstance(away, AnswerLost):
                raise
        else:
            self._started.add(name)

    async def wait(self, ticket: Ticket) -> Outcome:
        """How it ended. Raises DriverFault(NODE_LOST) for one the engine lost."""
        name = ticket.attempt_id
        ended = self._endings.expect(name)
        seen = name in self._started
        look_first = not seen
        self._started.discard(name)
        while True:
            if not look_first:
                await ended.wait()
            look_first = False
            try:
                found = await self._inspect(name)
            except EngineUnavailable:
                self._endings.outages.away()
                await asyncio.sleep(_RETRY_S)
                look_first = True
                continue
            state = found.state
            if state.status == "created":
                self._endings.forget(name)
                raise DriverFault(Cause.NODE_LOST, await self._unstarted(found))
            if state.over:
                ended.set()
                return await self._outcome(ticket, state, seen=seen)
            seen = True
            if ended.is_set():  # told before the engine's own books were closed
                await asyncio.sleep(_RETRY_S)

    async def stop(self, ticket: Ticket, grace_s: float) -> None:
        """The image's stop signal (SIGTERM), and SIGKILL after grace_s, rounded up to whole seconds."""
        name = ticket.attempt_id
        whole = -int(-grace_s // 1)
        try:
            await self._engine.call(
                "POST", container(name, "/stop"), params={"t": str(whole)}, deadline_s=whole + _STOP_SLACK_S
            )
        except aiodocker.DockerError as refusal:
            if refusal.status != 404:
                raise EngineUnavailable(f"cannot stop {name}: {refusal.message}") from refusal

    async def logs(self, ticket: Ticket, after: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """Output past `after`, live. Goes on over dropped streams; memory stays bounded however fast the job prints."""
        ended = self._endings.expect(ticket.attempt_id)
        book = MarkBook(ticket.folder)
        marks = book.best(after)
        cursors = {
            kind: Cursor(stream, marks.get(stream, Mark()), after.get(stream, 0)) for kind, stream in STREAMS.items()
        }
        await within(_FOLLOW_AFTER_S, ended)
        while True:
            last = ended.is_set()
            try:
                async for chunk in self._read(ticket.attempt_id, cursors, follow=not last):
                    book.note(cursors.values())
                    yield chunk
            except aiodocker.DockerError as refusal:
                if refusal.status != 404:
                    raise EngineUnavailable(
                        f"cannot read the log of {ticket.attempt_id}: {refusal.message}"
                    ) from refusal
                self._endings.forget(ticket.attempt_id)
                return
            except EngineUnavailable:
                last = False
            if last:
                return
            await within(_RETRY_S, ended)
            for cursor in cursors.values():
                cursor.rewind(cursor.mark())

    async def remove(self, ticket: Ticket) -> None:
        """Delete the container and its anonymous volumes."""
        name = ticket.attempt_id
        for known in (self._created, self._started):
            known.discard(name)
        self._endings.forget(name)
        try:
            await self._engine.call("DELETE", container(name), params={"force": "1", "v": "1"}, deadline_s=_SLOW_CALL_S)
        except aiodocker.DockerError as refusal:
            gone_or_going = refusal.status in (404, 409)
            if not gone_or_going:
                raise EngineUnavailable(f"cannot remove {name}: {refusal.message}") from refusal

    async def survivors(self) -> list[Survivor]:
        """Every container with this cluster's and node's labels."""
        return [
            Survivor(AttemptId(row.labels[ATTEMPT]), int(row.labels[FENCE]), row.state not in _NOT_RUNNING)
            for row in await self._endings.listed()
            if ATTEMPT in row.labels and row.labels.get(FENCE, "").isdecimal()
        ]

    async def _create(self, ticket: Ticket) -> bool:
        """Create it; False when its image is not local."""
        spec = ticket.spec
        assert spec.image is not None
        sockets = (self._engine.socket,) if self._engine.socket else ()
        binds = bind_mounts(spec.volumes, self._volumes_allowed, sockets) if spec.volumes else []
        image_user = ""
        if self._profile is Profile.RESTRICTED and spec.user is None:
            found = await self._images.user(spec.image)
            if found is None:
                return False
            image_user = found
        body = container_body(
            ticket,
            labels=ownership(ticket, self._cluster, self._node_id),
            profile=self._profile,
            binds=binds,
            image_user=image_user,
            restricted_network=self._restricted_network,
        )
        call: Coroutine[Any, Any, object] = self._engine.call(
            "POST", "/containers/create", params={"name": ticket.attempt_id}, body=body, deadline_s=_SLOW_CALL_S
        )
        try:
            await unbroken(call)
        except aiodocker.DockerError as refusal:
            if refusal.status == 409:  # the name is the attempt's: an earlier prepare made it
                return True
            if refusal.status == 404 and "no such image" in refusal.message.lower():
                return False
            raise start_fault(refusal) from refusal
        self._created.add(ticket.attempt_id)
        return True

    async def _unstarted(self, found: Inspected) -> str:
        """Words for a container that the engine says never started, once nothing of it runs here."""
        unknown = await asyncio.to_thread(kill_unknown, found.id) if self._engine.socket else 0
        if unknown:
            return f"the Docker Engine died while it started container {found.id[:12]}: what ran of it was killed"
        return f"container {found.id[:12]} was created and never started"

    async def _inspect(self, name: AttemptId) -> Inspected:
        """Its state now. Raises DriverFault(NODE_LOST) for one that is gone, EngineUnavailable."""
        try:
            return await self._engine.call("GET", container(name, "/json"), Inspected)
        except aiodocker.DockerError as refusal:
            if refusal.status == 404:
                self._endings.forget(name)
                raise DriverFault(Cause.NODE_LOST, f"container {name} is gone: removed by someone else") from refusal
            raise EngineUnavailable(f"cannot inspect {name}: {refusal.message}") from refusal

    async def _outcome(self, ticket: Ticket, state: State, *, seen: bool) -> Outcome:
        """`seen`: this process has seen it alive."""
        name, outcome = ticket.attempt_id, outcome_of(state)
        if outcome.cause in (None, Cause.OOM):
            return outcome
        if not await self._engine.accepts():
            self._endings.outages.away()
        started, ended = clock(state.started_at), clock(state.finished_at)
        if started is None or ended is None or self._endings.outages.cover(started, ended):
            return taken_down(outcome, "the Docker Engine went away and took the container with it")
        if outcome.exit_code in (126, 127) and (words := await self._init_words(name)):
            return replace(outcome, cause=Cause.START_FAILED, message=words)
        if seen and self._endings.outages.watched(ended):
            return outcome
        same_engine = await self._endings.remembers_start(name, started, ended)
        return unseen(outcome, rebooted=ticket.rebooted, same_engine=same_engine)

    async def _init_words(self, name: AttemptId) -> str:
        """What the container's init said if it could not run the command, else ""."""
        params = {"stderr": "1", "tail": "3"}
        try:
            async with self._engine.stream("GET", container(name, "/logs"), params, CALL_S) as answer:
                return init_refusal(await answer.read(8192))
        except (aiodocker.DockerError, EngineUnavailable):
            return ""

    async def _read(self, name: AttemptId, cursors: Mapping[int, Cursor], *, follow: bool) -> AsyncIterator[Chunk]:
        """One answer of the Engine's log, from where the cursors stand."""
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow))}
        if since := read_from(cursor.mark() for cursor in cursors.values()):
            params["since"] = since
        split = Demultiplexer(cursors)
        async with self._engine.stream("GET", container(name, "/logs"), params) as answer:
            async for piece in answer.iter_any():
                for chunk in split.feed(piece):
                    yield chunk
