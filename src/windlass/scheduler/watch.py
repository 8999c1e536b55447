"""Watch: nodes come, say they live, fall silent; what they say they hold goes to the inventory.

A node's silence means nothing while the leader itself can't hear: decisions freeze until the stream was readable for
one whole lost-interval, which also covers the time right after a takeover.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from windlass.core import events
from windlass.core.ids import NodeId
from windlass.core.placement.snapshot import Node, Room
from windlass.core.states import Driver, NodeState
from windlass.scheduler.desk import Desk
from windlass.scheduler.ingest import advance
from windlass.scheduler.inventory import Inventory
from windlass.store import nodes
from windlass.stream import wire

log = structlog.get_logger("scheduler")


@dataclass(slots=True)
class Watch:
    """The duty's memory: since when the stream can be heard, who beat since the last write, what they hold."""

    hearing_since: float = field(default_factory=time.monotonic)
    beaten: set[NodeId] = field(default_factory=lambda: set[NodeId]())
    inventory: Inventory = field(default_factory=Inventory)
    #: the mark of each node's hello that counts here
    _marks: dict[NodeId, str] = field(default_factory=lambda: dict[NodeId, str]())

    def deaf(self) -> None:
        """The stream could not be read just now, or not to its end: who is silent may have spoken."""
        self.hearing_since = time.monotonic()

    async def hear(
        self, desk: Desk, messages: Sequence[wire.Hello | wire.Beat | wire.Bye], *, current: bool = True
    ) -> None:
        """Take up what nodes say. What they hold counts if these messages are `current`, none newer waiting behind
        them, and of several beats the last one counts."""
        last = {message.node_id: message for message in messages if isinstance(message, wire.Beat)}
        for message in messages:
            match message:
                case wire.Hello():
                    await self._hello(desk, message)
                case wire.Beat():
                    await self._beat(desk, message, compare=current and last[message.node_id] is message)
                case wire.Bye():
                    await self._bye(desk, message)

    async def _hello(self, desk: Desk, hello: wire.Hello) -> None:
        picture = desk.picture
        old = picture.nodes.get(hello.node_id)
        drivers = frozenset(Driver(d) for d in hello.drivers if d in set(Driver))
        node = Node(
            hello.node_id,
            hello.name,
            NodeState.READY,
            old.cordoned if old else False,
            drivers,
            Room(hello.millis, hello.memory),
            draining=old.draining if old else False,
            leaving=hello.draining,
        )
        await nodes.upsert(
            desk.conn, node, version=hello.version, labels=hello.labels, facts=hello.facts, term=desk.term
        )
        picture.nodes[node.id], picture.heard[node.id] = node, time.monotonic()
        self._marks[node.id] = hello.mark
        if hello.draining:
            log.info("node_leaving", node_id=node.id, node=node.name)
            desk.commands[node.id].append(wire.Heard(draining=True))
        elif old is None or old.state is not NodeState.READY:
            log.info("node_ready", node_id=node.id, node=node.name)

    async def _bye(self, desk: Desk, bye: wire.Bye) -> None:
        """Its worker ended and left nothing behind: no need to wait for its silence. What it was sent and never took
        up is judged by that all the same, for a word may come twice, and late."""
        node = desk.picture.nodes.get(bye.node_id)
        if node is not None and node.leaving and node.state is not NodeState.LOST:
            log.info("node_gone", node_id=node.id, node=node.name)
            await self._become(desk, node, NodeState.LOST)

    async def _beat(self, desk: Desk, beat: wire.Beat, *, compare: bool) -> None:
        picture = desk.picture
        node = picture.nodes.get(beat.node_id)
        if node is None or node.state is NodeState.LOST or self._misses(beat):
            desk.commands[beat.node_id].append(wire.Introduce())
            if node is None:
                return
        picture.heard[beat.node_id] = time.monotonic()
        self.beaten.add(beat.node_id)
        if node.state is NodeState.SUSPECT:
            await self._become(desk, node, NodeState.READY)
        if compare and not self.inventory.outdated(beat, picture.now()):
            await self.inventory.compare(desk, beat)

    def _misses(self, beat: wire.Beat) -> bool:
        """Whether the node said of itself what was not read here: its hello was lost, an older one came late, or a
        former leader had it. A worker of version 0.2 or older marks none."""
        return bool(beat.hello) and self._marks.get(beat.node_id) != beat.hello

    async def tick(self, desk: Desk) -> None:
        """Once a second: write down who was heard, and judge who was not."""
        if self.beaten:
            await nodes.beat(desk.conn, list(self.beaten), term=desk.term)
            self.beaten.clear()
        now, rules = time.monotonic(), desk.rules
        if now - self.hearing_since < rules.node_lost_s:
            return
        for node in list(desk.picture.nodes.values()):
            silence = now - desk.picture.heard[node.id]
            if silence >= rules.node_lost_s:
                await self._lose(desk, node, silence)
            elif silence >= rules.node_suspect_s and node.state is NodeState.READY:
                await self._become(desk, node, NodeState.SUSPECT)

    async def _lose(self, desk: Desk, node: Node, silence: float) -> None:
        """It has been silent for too long: what it had is given up, save what may never run twice. Said anew while
        anything is left, for a former leader may have come no further than to write down the node's state."""
        picture = desk.picture
        attempts = [a for a in picture.by_node[node.id] if not picture.live[a].task.spec.exclusive]
        if node.state is not NodeState.LOST:
            await self._become(desk, node, NodeState.LOST)
            log.warning("node_lost", node_id=node.id, node=node.name, silence_s=round(silence, 1), lost=len(attempts))
        await advance(desk, [(attempt_id, events.NodeLost(), None) for attempt_id in attempts])

    async def _become(self, desk: Desk, node: Node, state: NodeState) -> None:
        await nodes.set_state(desk.conn, node.id, state, term=desk.term)
        desk.picture.nodes[node.id] = replace(node, state=state)
