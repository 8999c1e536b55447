"""The oracle: evidence that jobs wrote themselves, matched with what was accepted and what is recorded.

The idea is that of Jepsen's checker for Chronos: every accepted job must be matched by a complete run, every run by a
record; what is too much or not complete is reported, never forgiven. Pure: files and tables come in as values.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from windlass.store.inspection import AttemptRow, Books, JobRow

OVER = frozenset({"succeeded", "failed", "cancelled"})
#: seconds two copies of a job that is not exclusive may live side by side after a node was lost
OVERLAP_LIMIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job whose submission was answered with 2xx. `good` says whether it ends well if nothing is in its way."""

    name: str
    job_id: str
    exclusive: bool = False
    good: bool = True
    max_retries: int = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One evidence file. Moments are seconds since boot; `last` is its last sign of life, `code` None when cut off."""

    name: str
    attempt_id: str
    number: int
    node: str
    start: float
    last: float
    code: int | None = None
    signs: int = 0

    @property
    def output(self) -> bytes:
        """What a complete run has printed: a countdown of its signs of life, and how it ended."""
        return b"".join(b"%d\n" % left for left in range(self.signs, 0, -1)) + b"over %d\n" % (self.code or 0)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two copies of one job that lived at the same time."""

    name: str
    seconds: float
    exclusive: bool


@dataclass(slots=True)
class Verdict:
    """What was found. `broken` maps the name of a broken promise to what broke it."""

    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict[str, list[str]](list))
    overlaps: list[Overlap] = field(default_factory=list[Overlap])
    #: accepted jobs the cluster gave up on within its stated budgets of losses
    given_up: list[str] = field(default_factory=list[str])
    accepted: int = 0
    succeeded: int = 0
    attempts: int = 0
    runs: int = 0
    incomplete: int = 0
    extra: int = 0
    #: outputs with a gap that is on record as one
    gaps: int = 0
    #: attempts by how they ended
    outcomes: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def good(self) -> bool:
        """Whether every promise held."""
        return not any(self.broken.values())

    def breaks(self, promise: str, what: str) -> None:
        """Note a broken promise."""
        self.broken[promise].append(what)


#: Every promise the oracle looks at, in the order of the report.
PROMISES: Mapping[str, str] = {
    "lost": "accepted jobs lost",
    "wrong": "jobs with an outcome they can't have",
    "double": "outcomes recorded twice",
    "unproven": "successes without a complete run",
    "orphan": "runs that are not on record",
    "rerun": "attempts that ran twice",
    "exclusive": "overlaps of exclusive jobs",
    "overlap": f"overlaps longer than {OVERLAP_LIMIT_S:g} s",
    "output": "outputs with lines lost or doubled",
    "terms": "writes of a former leader among a newer one's",
    "stuck": "faults the cluster did not recover from",
    "fall": "processes that ended by themselves, and tracebacks in their logs",
    "leak": "things left behind",
}


def judge(accepted: Sequence[Accepted], runs: Sequence[Run], books: Books) -> Verdict:
    """Hold the three against each other."""
    verdict = Verdict(accepted=len(accepted), runs=len(runs), attempts=len(books.attempts))
    verdict.outcomes = dict(sorted(Counter(attempt.state for attempt in books.attempts).items()))
    jobs = {job.id: job for job in books.jobs}
    attempts: dict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in books.attempts:
        attempts[attempt.job_id].append(attempt)
    ran: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        ran[run.name].append(run)
    for job in accepted:
        row = jobs.get(job.job_id)
        if row is None or row.state not in OVER:
            verdict.breaks("lost", f"{job.name} ({job.job_id}): {row.state if row else 'not on record'}")
        else:
            _outcome(verdict, job, row, attempts[job.job_id], ran[job.name])
        _overlaps(verdict, job, ran[job.name])
    _accepted_twice(verdict, books.jobs)
    _recorded_once(verdict, books)
    _on_record(verdict, runs, books.attempts)
    _printed(verdict, runs, books)
    _one_leader(verdict, books.terms)
    return verdict


def _outcome(verdict: Verdict, job: Accepted, row: JobRow, tried: Sequence[AttemptRow], ran: Sequence[Run]) -> None:
    """The recorded end is one that this job can have, and its own files prove it."""
    won = [attempt for attempt in tried if attempt.state == "succeeded"]
    whole = {run.attempt_id for run in ran if run.code == 0}
    verdict.extra += len(whole) - bool(whole)
    if row.state == "succeeded":
        verdict.succeeded += 1
        if len(won) != 1 or not job.good:
            verdict.breaks("wrong", f"{job.name}: succeeded with {len(won)} attempts that did")
        elif won[0].id not in whole:
            verdict.breaks("unproven", f"{job.name}: no complete run of {won[0].id}")
        return
    failed = sum(attempt.state == "failed" for attempt in tried)
    if won:
        verdict.breaks("wrong", f"{job.name}: {row.state}, though {won[0].id} succeeded")
    elif not job.good and failed == job.max_retries + 1:
        return
    elif row.infra_losses and failed <= job.max_retries:
        verdict.given_up.append(f"{job.name}: {row.reason}")
    else:
        verdict.breaks("wrong", f"{job.name}: {row.state} after {failed} failed attempts: {row.reason}")


def _overlaps(verdict: Verdict, job: Accepted, ran: Sequence[Run]) -> None:
    longest: Run | None = None
    for run in sorted(ran, key=lambda run: run.start):
        if longest is not None and (seconds := min(longest.last, run.last) - run.start) > 0:
            verdict.overlaps.append(Overlap(job.name, seconds, job.exclusive))
            what = f"{job.name}: {seconds:.2f} s, attempts {longest.number} and {run.number}"
            if job.exclusive:
                verdict.breaks("exclusive", what)
            elif seconds > OVERLAP_LIMIT_S:
                verdict.breaks("overlap", what)
        longest = run if longest is None or run.last > longest.last else longest


def _accepted_twice(verdict: Verdict, jobs: Iterable[JobRow]) -> None:
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            verdict.breaks("double", f"{name}: {count} jobs for one Idempotency-Key")


def _recorded_once(verdict: Verdict, books: Books) -> None:
    """Every attempt that is over has exactly one recorded end, and so has every job."""
    of_attempts = Counter(end.attempt_id for end in books.ends if end.attempt_id is not None)
    of_jobs = Counter(end.job_id for end in books.ends if end.type.removeprefix("job.") in OVER)
    for attempt in books.attempts:
        count = of_attempts[attempt.id]
        if count != (attempt.finished_at is not None):
            verdict.breaks("double", f"{attempt.id}: {count} recorded outcomes, state {attempt.state}")
    for job in books.jobs:
        count = of_jobs[job.id]
        if count != (job.state in OVER):
            verdict.breaks("double", f"{job.id}: {count} recorded ends, state {job.state}")


def _on_record(verdict: Verdict, runs: Iterable[Run], attempts: Iterable[AttemptRow]) -> None:
    """Every run belongs to an attempt on the node it was placed on, and no attempt ran twice."""
    known = {attempt.id: attempt for attempt in attempts}
    seen: set[str] = set()
    for run in runs:
        verdict.incomplete += run.code is None
        attempt = known.get(run.attempt_id)
        if attempt is None or attempt.number != run.number:
            verdict.breaks("orphan", f"{run.name}: a run of {run.attempt_id} (attempt {run.number})")
        elif attempt.state == "rejected":
            verdict.breaks("orphan", f"{run.name}: {run.attempt_id} ran, and is recorded as refused")
        if run.attempt_id in seen:
            verdict.breaks("rerun", f"{run.name}: {run.attempt_id}")
        seen.add(run.attempt_id)


def _printed(verdict: Verdict, runs: Iterable[Run], books: Books) -> None:
    """The output of every complete run whose exit is on record is there, line by line, or its gap is on record."""
    told = {attempt.id for attempt in books.attempts if attempt.state == "succeeded" or attempt.cause == "exit_code"}
    for run in runs:
        if run.code is None or run.attempt_id not in told:
            continue
        found, missing = books.output.get(run.attempt_id, (b"", 0))
        verdict.gaps += missing > 0
        if found != run.output and not missing:
            verdict.breaks("output", f"{run.name}: {run.attempt_id} printed {run.output!r}, kept is {found!r}")


def _one_leader(verdict: Verdict, terms: Sequence[int]) -> None:
    for before, after in pairwise(terms):
        if after < before:
            verdict.breaks("terms", f"a placement of term {after} after one of term {before}")
