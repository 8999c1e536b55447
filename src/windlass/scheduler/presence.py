"""This scheduler as others may see it: who it is, that it lives, and whether Redis serves it."""

import os
import platform
from dataclasses import dataclass, field

from windlass import __version__
from windlass.core.ids import SCHEDULER
from windlass.mint import new_id
from windlass.store import schedulers
from windlass.store.db import Conn
from windlass.stream.outage import Health


@dataclass(slots=True)
class Presence:
    """One scheduler process. Its id holds the lease when it leads."""

    id: str = field(default_factory=lambda: new_id(SCHEDULER))
    #: of its ways to Redis; while it does not lead, it has none
    health: Health = field(default_factory=Health)

    async def say(self, conn: Conn) -> None:
        """Renew the row in the ledger. Raises Unavailable."""
        degraded = self.health.degraded_s is not None
        await schedulers.seen(conn, self.id, platform.node(), os.getpid(), __version__, redis_degraded=degraded)

    async def leave(self, conn: Conn) -> None:
        """Take the row away. Raises Unavailable."""
        await schedulers.gone(conn, self.id)
