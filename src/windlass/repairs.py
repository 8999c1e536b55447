"""Repairs: what a sweep found out of step, and put right. Counted and told by name."""

from typing import Any

import structlog

from windlass import metrics

log = structlog.get_logger("repair")


def repaired(kind: str, count: int = 1, **where: Any) -> None:
    """Count repairs of one of metrics.KINDS, and say in the log what was repaired."""
    if count:
        metrics.REPAIRS.labels(kind=kind).inc(count)
        log.info("repair", kind=kind, count=count, **where)
