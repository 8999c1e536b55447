"""Workers that share a data folder mind each other's leases.

A container that dies takes its watchdog with it, and what the engine runs for that node goes on. So where the lease of
a neighbour has run out, the watchdog of its folder is started from here: it ends what runs there, before others
run it again, notes what it has ended, and goes.
"""

import asyncio
from pathlib import Path

import structlog

from windlass.core.ids import NodeId
from windlass.driver.base import EngineUnavailable
from windlass.driver.keeper import Keeper
from windlass.settings import Worker
from windlass.watchdog.protocol import LEASE
from windlass.worker import clock
from windlass.worker.folders import known_node
from windlass.worker.lease import moment

log = structlog.get_logger("worker")

LOOK_S = 1.0


class Neighbours:
    """The other folders beside this worker's. Without a shared folder there are none."""

    def __init__(self, mine: Worker, keeper: Keeper) -> None:
        self._mine, self._keeper = mine, keeper
        self._ended: dict[Path, float] = {}

    async def run(self) -> None:
        """Look at them, until cancelled."""
        own = self._mine.data
        while self._mine.shared_data:
            await asyncio.sleep(LOOK_S)
            for folder in own.parent.iterdir():
                if folder != own and (node := known_node(folder)) is not None:
                    await self._look(folder, node)

    async def _look(self, folder: Path, node: NodeId) -> None:
        last, now, limit_s = moment(folder / LEASE), clock.now(), self._mine.self_fence_s
        of_this_boot = last <= now
        guarded = self._keeper.guarded
        if guarded is None or self._ended.get(folder) == last or (of_this_boot and now - last <= limit_s):
            return
        address, labels = guarded
        watchdog = Keeper(folder, node, limit_s)
        watchdog.guard(address, [label.replace(self._keeper.node, node) for label in labels])
        try:
            await watchdog.open()
            self._ended[folder] = last
            log.warning("neighbour_fenced", neighbour=node)
        except EngineUnavailable as error:
            log.warning("watchdog_missing", neighbour=node, error=str(error))
        finally:
            await watchdog.close()
