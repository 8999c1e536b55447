"""Sentences about jobs: how one ended, and why one waits."""

from windlass.cli.render import span
from windlass.client import Attempt, Job


def ended(job: Job) -> str:
    """How a job ended, in one sentence."""
    tries = len(job.status.attempts)
    after = f" after {tries} attempts" if tries > 1 else ""
    if job.state == "cancelled":
        return f"{job.id} was cancelled{after}"
    if job.state != "failed":
        return f"{job.id} {job.state}{after}"
    last = job.last_attempt
    why = fault(last) if last is not None else ""
    return f"{job.id} failed{after}: {why or job.status.reason or 'no cause was recorded'}"


def fault(attempt: Attempt) -> str:
    """What ended an attempt that did not succeed, in a few words; empty where nothing did."""
    if attempt.cause is None:
        return ""
    words = {
        "exit_code": f"exit code {attempt.exit_code}",
        "signal": f"killed by a signal (exit code {attempt.exit_code})",
        "oom": "out of memory",
        "timeout": "time limit",
        "image_pull": "the image could not be pulled",
        "start_failed": "it could not be started",
        "node_lost": f"node {attempt.node} was lost",
        "rejected": f"node {attempt.node} refused it",
        "drained": f"node {attempt.node} was drained",
    }.get(attempt.cause, attempt.cause)
    if attempt.message and words in attempt.message:
        return attempt.message
    return f"{words}: {attempt.message}" if attempt.message else words


def waiting(job: Job) -> str:
    """Why a job is not running yet, in one sentence; empty when it is, or has ended."""
    last = job.last_attempt
    if job.terminal:
        return ""
    if job.state == "running":
        if job.status.reason:  # it is not where it should be
            return f"running: {job.status.reason}"
        # Placed but not started: the node pulls the image or creates the container.
        return f"being prepared on {last.node}" if last and last.state in ("placed", "preparing") else ""
    return f"{job.state}: {job.status.reason or 'not placed yet'}"


def took(attempt: Attempt) -> str:
    """How long an attempt ran."""
    if attempt.started_at is None or attempt.finished_at is None:
        return ""
    return span((attempt.finished_at - attempt.started_at).total_seconds())
