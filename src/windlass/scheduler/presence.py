"""This scheduler as others may see it: who it is, that it lives, and whether Redis serves it."""

import os
import platform
from dataclasses import dataclass, field

from windlass import __version__, metrics
from windlass.core.ids import SCHEDULER
from windlass.mint import new_id
from windlass.store import schedulers
from windlass.store.db import Conn


@dataclass(slots=True)
class Presence:
    """One scheduler process. Its id holds the lease when it leads."""

    id: str = field(default_factory=lambda: new_id(SCHEDULER))
    redis_degraded: bool = False

    def redis(self, *, degraded: bool) -> None:
        """Whether Redis fails this process, so that polls stand in for it."""
        self.redis_degraded = degraded
        metrics.REDIS_DEGRADED.set(degraded)

    async def say(self, conn: Conn) -> None:
        """Renew the row in the ledger. Raises Unavailable."""
        await schedulers.seen(
            conn, self.id, platform.node(), os.getpid(), __version__, redis_degraded=self.redis_degraded
        )

    async def leave(self, conn: Conn) -> None:
        """Take the row away. Raises Unavailable."""
        await schedulers.gone(conn, self.id)
