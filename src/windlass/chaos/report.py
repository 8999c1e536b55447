"""The report: what was promised, what was found, how long the cluster took to come back."""

import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from windlass import __version__
from windlass.chaos.load import Load
from windlass.chaos.oracle import PROMISES, Run, Verdict
from windlass.chaos.site import RECOVER_S, Hit
from windlass.store.inspection import Books

#: What a table shows of a promise that broke.
_SHOWN = 5
#: Their recovery is told per job, by its own evidence.
_LOSSES = frozenset({"worker-loss", "worker-freeze", "worker-cut-off"})


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds, sorted out."""

    count: int
    p50: float
    p99: float
    most: float

    def json(self) -> dict[str, float]:
        """As written in the report, in seconds."""
        return {"count": self.count, "p50": round(self.p50, 3), "p99": round(self.p99, 3), "max": round(self.most, 3)}


def figures(values: Iterable[float]) -> Figures | None:
    """Of all these; None of none."""
    ordered = sorted(values)
    if not ordered:
        return None

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Figures(len(ordered), at(0.5), at(0.99), ordered[-1])


@dataclass
class Report:
    """All of a run that is worth keeping. Moments are seconds since its beginning."""

    seed: int
    driver: str
    duration_s: float
    machine: str
    verdict: Verdict
    hits: Sequence[Hit]
    began: float
    answers: Mapping[str, int]
    #: fault kind -> how long until the cluster was back, of faults that came alone
    recovery: Mapping[str, Figures]
    #: the same of all, other faults at work meanwhile or not
    recovery_all: Mapping[str, Figures]
    #: fault kind -> from the loss of a node to the next attempt's own evidence, per job that ran there
    elsewhere: Mapping[str, Figures]
    #: what was going on -> from submission to the job's own evidence
    dispatch: Mapping[str, Figures]
    memory: Mapping[str, Mapping[str, float]]
    #: moments at which attempts began
    starts: Sequence[float] = field(default_factory=list[float])

    @property
    def good(self) -> bool:
        """Whether every promise held."""
        return self.verdict.good

    def json(self) -> dict[str, Any]:
        """The report as plain values."""
        verdict = self.verdict
        counts = {"accepted": verdict.accepted, "succeeded": verdict.succeeded, "attempts": verdict.attempts}
        counts |= {"runs": verdict.runs, "runs_cut_off": verdict.incomplete, "runs_extra": verdict.extra}
        overlaps = figures(overlap.seconds for overlap in verdict.overlaps)
        return {
            "version": __version__,
            "good": self.good,
            "seed": self.seed,
            "driver": self.driver,
            "duration_s": round(self.duration_s, 1),
            "machine": self.machine,
            "jobs": counts | {"outcomes": verdict.outcomes, "output_gaps": verdict.gaps, "given_up": verdict.given_up},
            "faults": {"count": len(self.hits), "kinds": _kinds(self.hits)},
            "broken": {promise: verdict.broken.get(promise, []) for promise in PROMISES},
            "overlaps": overlaps.json() if overlaps else None,
            "recovery_s": {kind: found.json() for kind, found in self.recovery.items()},
            "recovery_all_s": {kind: found.json() for kind, found in self.recovery_all.items()},
            "elsewhere_s": {kind: found.json() for kind, found in self.elsewhere.items()},
            "dispatch_s": {when: found.json() for when, found in self.dispatch.items()},
            "answers": dict(self.answers),
            "memory": self.memory,
            "timeline": [_line(hit, self.began) for hit in self.hits],
        }

    def text(self) -> str:
        """The report for people."""
        verdict = self.verdict
        lines = [
            f"{len(self.hits)} faults in {self.duration_s:.0f} s, seed {self.seed}, driver {self.driver}",
            self.machine,
            f"{verdict.accepted} jobs accepted, {verdict.attempts} attempts, {verdict.runs} runs with evidence "
            f"({verdict.incomplete} cut off, {verdict.extra} more than needed)",
            "attempts: " + ", ".join(f"{count} {state}" for state, count in verdict.outcomes.items()),
            "",
        ]
        for promise, words in PROMISES.items():
            found = verdict.broken.get(promise, [])
            lines.append(f"{len(found):6}  {words}")
            lines += [f"          {what}" for what in found[:_SHOWN]]
        longest = max((overlap.seconds for overlap in verdict.overlaps), default=0.0)
        lines.append(f"{len(verdict.overlaps):6}  overlaps of jobs that are not exclusive, the longest {longest:.1f} s")
        lines.append(f"{verdict.gaps:6}  outputs with a gap that is recorded as one")
        lines.append(f"{len(verdict.given_up):6}  jobs given up within their budget of losses")
        lines += _table("recovery, faults alone", self.recovery)
        lines += _table("recovery, all faults", self.recovery_all)
        lines += _table("node lost -> runs elsewhere", self.elsewhere)
        lines += _table("submitted -> runs", self.dispatch)
        for role, memory in self.memory.items():
            slope = f", {memory['slope']:+.2f} MiB/h over {memory['hours']:.2f} h" if "slope" in memory else ""
            lines.append(f"memory of {role}: at most {memory['most']:.0f} MiB{slope}")
        lines += ["", "every promise held" if self.good else "A PROMISE BROKE"]
        return "\n".join(lines)


def make(
    seed: int,
    driver: str,
    span: tuple[float, float],
    verdict: Verdict,
    hits: Sequence[Hit],
    load: Load,
    runs: Sequence[Run],
    books: Books,
    memory: Mapping[str, Mapping[str, float]],
) -> Report:
    """Put the report together."""
    for hit in hits:
        if hit.recovered_s is None:
            verdict.breaks("stuck", f"fault {hit.number} {hit.fault}: not back within {RECOVER_S:g} s")
    return Report(
        seed=seed,
        driver=driver,
        duration_s=span[1] - span[0],
        machine=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        verdict=verdict,
        hits=hits,
        began=span[0],
        answers=load.answers,
        recovery=_by_kind((hit.fault, hit.recovered_s) for hit in hits if hit.alone and hit.fault not in _LOSSES),
        recovery_all=_by_kind((hit.fault, hit.recovered_s) for hit in hits if hit.fault not in _LOSSES),
        elsewhere=_by_kind(_moved(hits, runs, books)),
        dispatch=_by_kind(_dispatched(hits, load, runs, span[0])),
        memory=memory,
        starts=sorted(run.start - span[0] for run in runs),
    )


def _by_kind(values: Iterable[tuple[str, float | None]]) -> dict[str, Figures]:
    found: dict[str, list[float]] = defaultdict(list)
    for kind, value in values:
        if value is not None:
            found[kind].append(value)
    return {kind: made for kind in sorted(found) if (made := figures(found[kind])) is not None}


def _moved(hits: Sequence[Hit], runs: Sequence[Run], books: Books) -> Iterable[tuple[str, float]]:
    """For every attempt lost with its node: from the fault to the next attempt's own beginning."""
    began = {run.attempt_id: run.start for run in runs}
    later = {before.id: after.id for before, after in pairwise(books.attempts) if before.job_id == after.job_id}
    lost = {attempt.id for attempt in books.attempts if attempt.state == "lost"}
    for hit in hits:
        for victim in hit.victims if hit.fault in _LOSSES else ():
            if victim in lost and (start := began.get(later.get(victim, ""))) is not None:
                yield hit.fault, start - hit.injected_at


def _dispatched(hits: Sequence[Hit], load: Load, runs: Sequence[Run], began: float) -> Iterable[tuple[str, float]]:
    """From each submission to the job's first evidence, by what was going on."""
    first: dict[str, float] = {}
    for run in runs:
        first[run.name] = min(run.start, first.get(run.name, run.start))
    for wish in load.wishes:
        if wish.name in first and wish.asked_at >= began:
            hurt = {hit.component for hit in hits if _during(hit, wish.asked_at)}
            when = "quiet" if not hurt else f"{min(hurt)} hurt" if len(hurt) == 1 else "several hurt"
            yield when, max(0.0, first[wish.name] - wish.asked_at)


def _during(hit: Hit, moment: float) -> bool:
    end = max(hit.healed_at or hit.injected_at, hit.back_at or hit.injected_at)
    return hit.injected_at - 0.5 <= moment <= end


def _kinds(hits: Iterable[Hit]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for hit in hits:
        found[hit.fault] += 1
    return dict(sorted(found.items()))


def _line(hit: Hit, began: float) -> dict[str, Any]:
    healed = None if hit.healed_at is None else round(hit.healed_at - began, 2)
    recovered = None if hit.recovered_s is None else round(hit.recovered_s, 3)
    return {
        "fault": hit.fault,
        "targets": hit.targets,
        "at_s": round(hit.injected_at - began, 2),
        "healed_s": healed,
        "recovered_s": recovered,
        "alone": hit.alone,
    }


def _table(title: str, rows: Mapping[str, Figures]) -> list[str]:
    if not rows:
        return []
    head = f"{title:<28} {'count':>6} {'p50':>8} {'p99':>8} {'max':>8}"
    body = [f"  {kind:<26} {f.count:6} {f.p50:7.2f}s {f.p99:7.2f}s {f.most:7.2f}s" for kind, f in rows.items()]
    return ["", head, *body]
