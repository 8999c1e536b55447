"""Repair what the connection to the watchdog lost: a process that is held for running here and is over there."""

from windlass import metrics
from windlass.driver.keeper import Keeper, exit_of
from windlass.repairs import repaired


async def sweep(keeper: Keeper) -> None:
    """End the processes whose end was missed, with their exit if the watchdog has it.

    Leave alone what is being spawned, and what is watched without a watchdog. The answer comes behind all ends sent
    before it, so a process that it shows to be over and that still runs here has no end under way. Ask one question
    per call, whose answer grows with what the watchdog keeps.
    """
    held = {a: p for a, p in keeper.processes.items() if p.pid and not p.orphan and not p.done.done()}
    kept = await keeper.inventory() if held else None
    if kept is None:
        return
    for attempt_id, process in held.items():
        if keeper.processes.get(attempt_id) is not process or process.orphan or process.done.done():
            continue
        known = kept.get(attempt_id)
        if known is None or known["exit"] is not None:
            process.end(exit_of(known) if known is not None else None)
            repaired(metrics.PROCESS_GONE, attempt_id=attempt_id, exit_known=known is not None)
