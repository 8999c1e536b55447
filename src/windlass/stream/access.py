"""Nodes' own ways into Redis: one ACL user per node, which may read the commands to that node and write to the leader's
stream, and nothing else.

Users are in Redis alone, which may lose them like all else: a worker that is refused asks the API, and has its user
made again. Redis is given the SHA-256 of the password, never the password.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from windlass.core.ids import NodeId
from windlass.stream.keys import Keys
from windlass.stream.outage import StreamDown, heeding

#: What a worker's connections say (stream/consume.py, stream/produce.py), on the stream of its own node. Commands that
#: Redis 7.0 has; it would refuse a rule that names others.
OWN = ("+xreadgroup", "+xpending", "+xack", "+xdel", "+xgroup|create")
ALWAYS = ("+ping",)
AGAIN_S = 1.0


def rules(keys: Keys, node_id: NodeId, password_sha256: str) -> list[str]:
    """The user's rules from nothing, so that what it was before does not matter."""
    return [
        "reset", "on", f"#{password_sha256}", "resetkeys", "resetchannels", "-@all", *ALWAYS,
        f"~{keys.node(node_id)}", *OWN, f"(%W~{keys.leader} +xadd)",
    ]  # fmt: skip


class Doorkeeper:
    """One per API process; `run` lasts until cancelled."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._out: set[NodeId] = set()
        self._some = asyncio.Event()

    async def admit(self, node_id: NodeId, password_sha256: str) -> None:
        """Let a node in with this password, and with no other. Raises StreamDown."""
        self._out.discard(node_id)
        await self._say("SETUSER", self._keys.user(node_id), *rules(self._keys, node_id, password_sha256))

    def shut_out(self, node_id: NodeId) -> None:
        """Let a node in no more, and cut its connections off: at once, or as soon as Redis answers."""
        self._out.add(node_id)
        self._some.set()

    async def run(self) -> None:
        """See to it that who was shut out is."""
        while True:
            await self._some.wait()
            self._some.clear()
            for node_id in list(self._out):
                try:
                    await self._say("DELUSER", self._keys.user(node_id))
                    self._out.discard(node_id)
                except StreamDown:
                    await asyncio.sleep(AGAIN_S)
                    self._some.set()

    async def _say(self, verb: str, *words: str) -> None:
        try:
            await heeding(cast("Awaitable[Any]", self._redis.execute_command("ACL", verb, *words)))
        except (RedisError, OSError, TimeoutError) as error:
            why = f"Redis does not do ACL {verb}: {type(error).__name__}: {error}"
            raise StreamDown(why) from error
