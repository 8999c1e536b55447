"""Adopt and reap: after a restart, hold the journal against what the drivers find.

| journal | driver | then |
|---|---|---|
| ended | any | report again; remove what is left |
| open | knows it never started it | start it now: its worker went away in between |
| open | found | adopt: wait, ship the rest of the output, enforce the limits |
| open | not found | report it lost to infrastructure: it may have run, so it is not started again here |
| unknown | found | ours by label and not in the journal: end it and remove it |
"""

from pathlib import Path

import structlog

from windlass.core.ids import AttemptId, JobId
from windlass.core.spec import JobSpec
from windlass.core.states import Cause, Driver
from windlass.driver import base
from windlass.driver.base import Survivor, Ticket
from windlass.worker import clock
from windlass.worker.agent import Agent
from windlass.worker.journal import Ended, Entry
from windlass.worker.runner import Run, ticket_of

log = structlog.get_logger("worker")


async def adopt(agent: Agent, name: Driver, driver: base.Driver) -> None:
    """Settle everything of one driver. Raises EngineUnavailable; may be called again."""
    found = {survivor.attempt_id: survivor for survivor in await driver.survivors()}
    bench = agent.bench
    entries = {a: e for a, e in bench.journal.entries.items() if e.launch.spec.driver is name and a not in agent.runs}
    for attempt_id, entry in entries.items():
        if entry.ended is not None:
            bench.reporter.ended(attempt_id, entry.ended)
            if attempt_id in found:
                await _remove(driver, ticket_of(entry.launch, bench.folder))
        elif driver.never_started(attempt_id, entry.received_at):
            await _remove(driver, ticket_of(entry.launch, bench.folder))
            _begin(agent, driver, entry)
        elif attempt_id in found:
            _adopt(agent, driver, entry, running=found[attempt_id].running)
        else:
            ended = Ended(clock.now(), Cause.NODE_LOST, None, "not found when its worker came back")
            bench.journal.ended(attempt_id, ended)
            bench.reporter.ended(attempt_id, ended)
    for attempt_id in found.keys() - bench.journal.entries.keys() - agent.runs.keys():
        await _reap(driver, found[attempt_id], bench.folder)


def _adopt(agent: Agent, driver: base.Driver, entry: Entry, *, running: bool) -> None:
    log.info("adopted", attempt_id=entry.launch.attempt_id)
    run = Run(agent.bench, driver, entry.launch, entry.received_at)
    agent.follow(run, run.adopted(running=running))


def _begin(agent: Agent, driver: base.Driver, entry: Entry) -> None:
    log.info("begun", attempt_id=entry.launch.attempt_id)
    run = Run(agent.bench, driver, entry.launch, entry.received_at)
    agent.follow(run, run.fresh())


async def _reap(driver: base.Driver, survivor: Survivor, folder: Path) -> None:
    log.info("reaped", attempt_id=survivor.attempt_id)
    stranger = Ticket(
        AttemptId(survivor.attempt_id), JobId("unknown"), 0, survivor.fence, JobSpec(), folder / survivor.attempt_id
    )
    await _remove(driver, stranger, running=survivor.running)


async def _remove(driver: base.Driver, ticket: Ticket, *, running: bool = False) -> None:
    try:
        if running:
            await driver.stop(ticket, 0.0)
        await driver.remove(ticket)
    except base.DriverFault as fault:
        log.warning("remove_failed", attempt_id=ticket.attempt_id, error=fault.message)
