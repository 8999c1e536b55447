"""What a worker's page for Prometheus tells of its node at the moment somebody asks."""

import shutil
from collections.abc import Callable, Iterator

from windlass.metrics import worker as metrics
from windlass.metrics.catalogue import Figure
from windlass.worker.agent import Agent


def figures(agent: Agent, exchanging: Callable[[], bool], contact_age_s: Callable[[], float]) -> Iterator[Figure]:
    """Called from another thread: it takes copies, and changes nothing."""
    bench = agent.bench
    yield metrics.ATTEMPTS, (), len(agent.runs)
    ended = sum(entry.ended is not None for entry in list(bench.journal.entries.values()))
    yield metrics.UNCONFIRMED, (), ended
    for driver, facts in list(agent.facts.items()):
        yield metrics.DRIVERS, (driver.value,), facts.available
    disk = shutil.disk_usage(bench.folder.parent)
    yield metrics.DISK_FREE, (), disk.free
    yield metrics.DISK_SIZE, (), disk.total
    yield metrics.FULL, (), bool(agent.full)
    yield metrics.EXCHANGE, (), exchanging()
    yield metrics.CONTACT_AGE, (), contact_age_s()
    yield metrics.LOG_WAITING, (), bench.shipper.waiting
