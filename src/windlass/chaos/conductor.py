"""The conductor: chooses faults by a seed, lets them overlap, and watches each until the cluster is back."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from windlass.chaos.faults import Fault
from windlass.chaos.site import RECOVER_S, Hit, NoTarget, Site
from windlass.errors import WindlassError

Say = Callable[[str], None]
#: Faults that may be going on at a time.
_AT_ONCE = 6


@dataclass
class Conductor:
    """Injects faults, each in a task of its own."""

    site: Site
    faults: Sequence[Fault]
    dice: random.Random
    every_s: float
    say: Say
    hits: list[Hit] = field(default_factory=list[Hit])
    _going: dict["asyncio.Task[None]", Hit] = field(default_factory=lambda: dict["asyncio.Task[None]", Hit]())

    async def run(self, until: float, count: int | None) -> None:
        """A fault every `every_s` seconds or so, until this monotonic moment or so many of them."""
        while time.monotonic() < until and (count is None or len(self.hits) < count):
            await asyncio.sleep(min(self.every_s * self.dice.uniform(0.5, 1.5), max(0.0, until - time.monotonic())))
            self._check()
            if time.monotonic() < until and len(self._going) < _AT_ONCE:
                await self._one()

    async def settle(self) -> None:
        """Until every fault is healed and over."""
        if self._going:
            await asyncio.gather(*self._going)
        self._check()

    async def _one(self) -> None:
        """Inject the next fault that finds a target."""
        for _ in range(3):
            number = len(self.hits) + 1
            fault = self.dice.choices(self.faults, [one.weight for one in self.faults])[0]
            hit = Hit(number, fault.name, fault.component, random.Random(self.dice.random()))
            hit.at_once = fault.at_once
            injected: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._life(fault, hit, injected))
            self._going[task] = hit
            task.add_done_callback(self._over)
            if await asyncio.shield(injected):  # a run that is ended early heals what it has begun all the same
                return

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._failed = task if not task.cancelled() and task.exception() else self._failed
        del self._going[task]

    _failed: "asyncio.Task[None] | None" = None

    def _check(self) -> None:
        """Raise what a fault's own task raised: that is a mistake of ours, or a server that does not start again."""
        if self._failed is not None:
            self._failed.result()

    async def _life(self, fault: Fault, hit: Hit, injected: "asyncio.Future[bool]") -> None:
        """From injection to recovery. A fault that finds nobody to hit is none."""
        act = fault.act(self.site, hit)
        begun = False
        try:
            await anext(act)
            begun = True
        except NoTarget:
            self.site.busy -= set(hit.targets)
            return
        finally:
            injected.set_result(begun)
        for other in self._going.values():
            if other is not hit:
                other.alone = hit.alone = False
        self.hits.append(hit)
        try:
            async with asyncio.TaskGroup() as group:
                if fault.at_once:
                    group.create_task(self._recover(fault, hit))
                async for _ in act:
                    raise WindlassError(f"{fault.name} yields twice")
            if not fault.at_once:
                await self._recover(fault, hit)
        finally:
            self.site.busy -= set(hit.targets)

    async def _recover(self, fault: Fault, hit: Hit) -> None:
        hit.recovered_s = await fault.recovery(self.site, hit)
        where = ", ".join(hit.targets) if len(hit.targets) < 4 else "everything"
        lasted = f" lasted {hit.healed_at - hit.injected_at:.1f} s," if hit.healed_at else ""
        how = (
            f"recovered after {hit.recovered_s:.2f} s" if hit.recovered_s is not None else f"NOT back in {RECOVER_S} s"
        )
        self.say(f"{hit.number:4} {hit.fault:<18} {where}:{lasted} {how}")
