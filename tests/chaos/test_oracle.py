"""The oracle catches what it is there for: every kind of broken promise, planted one at a time in a history that is
otherwise good."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from windlass.chaos.oracle import PROMISES, Accepted, Run, Verdict, judge
from windlass.store.inspection import AttemptRow, Books, EndRow, JobRow


@dataclass
class History:
    """Two jobs that ran well, the first after a lost attempt; the second is exclusive."""

    accepted: list[Accepted] = field(
        default_factory=lambda: [Accepted("a", "job_a"), Accepted("b", "job_b", exclusive=True)]
    )
    runs: list[Run] = field(
        default_factory=lambda: [
            Run("a", "att_a1", 1, "n1", 10, 14),
            Run("a", "att_a2", 2, "n2", 20, 25, 0, signs=2),
            Run("b", "att_b1", 1, "n1", 11, 12, 0),
        ]
    )
    jobs: list[JobRow] = field(
        default_factory=lambda: [
            JobRow("job_a", "a", "succeeded", 0, 1, ""),
            JobRow("job_b", "b", "succeeded", 0, 0, ""),
        ]
    )
    attempts: list[AttemptRow] = field(
        default_factory=lambda: [
            AttemptRow("att_a1", "job_a", 1, "n1", "lost", 1, 9, 10, 18, "node_lost"),
            AttemptRow("att_a2", "job_a", 2, "n2", "succeeded", 2, 19, 20, 25, ""),
            AttemptRow("att_b1", "job_b", 1, "n1", "succeeded", 1, 10, 11, 12, ""),
        ]
    )
    ends: list[EndRow] = field(
        default_factory=lambda: [
            EndRow("job_a", "job.queued", "att_a1"),
            EndRow("job_a", "job.succeeded", "att_a2"),
            EndRow("job_b", "job.succeeded", "att_b1"),
        ]
    )
    terms: list[int] = field(default_factory=lambda: [1, 1, 2])
    output: dict[str, tuple[bytes, int]] = field(
        default_factory=lambda: {"att_a2": (b"2\n1\nover 0\n", 0), "att_b1": (b"over 0\n", 0)}
    )

    def judged(self) -> Verdict:
        return judge(self.accepted, self.runs, Books(self.jobs, self.attempts, self.ends, self.terms, self.output))


def broken(verdict: Verdict) -> set[str]:
    return {promise for promise, what in verdict.broken.items() if what}


def test_a_good_history_is_good() -> None:
    verdict = History().judged()
    assert verdict.good, verdict.broken
    assert (verdict.accepted, verdict.succeeded, verdict.runs, verdict.incomplete, verdict.extra) == (2, 2, 3, 1, 0)
    assert verdict.overlaps == []


def not_on_record(history: History) -> None:
    history.jobs.pop(0)
    history.attempts = history.attempts[2:]
    history.ends = history.ends[2:]
    history.runs = history.runs[2:]


def never_over(history: History) -> None:
    history.jobs[1] = replace(history.jobs[1], state="active")
    history.attempts[2] = replace(history.attempts[2], state="running", finished_at=None)
    history.ends.pop()


def no_task(history: History) -> None:
    history.jobs[1] = replace(history.jobs[1], state=None)
    history.attempts.pop()
    history.ends.pop()
    history.runs.pop()


def recorded_twice(history: History) -> None:
    history.ends.append(EndRow("job_a", "job.queued", "att_a2"))


def ended_twice(history: History) -> None:
    history.ends.append(EndRow("job_a", "job.failed", None))


def never_recorded(history: History) -> None:
    history.ends.pop(0)


def recorded_while_it_runs(history: History) -> None:
    history.attempts[0] = replace(history.attempts[0], state="running", finished_at=None)


def two_jobs_for_one_key(history: History) -> None:
    history.jobs.append(JobRow("job_c", "a", "cancelled", 0, 0, ""))
    history.ends.append(EndRow("job_c", "job.cancelled", None))


def never_ran(history: History) -> None:
    history.runs.pop()


def cut_off_and_called_a_success(history: History) -> None:
    history.runs[1] = replace(history.runs[1], code=None)


def failed_and_called_a_success(history: History) -> None:
    history.runs[1] = replace(history.runs[1], code=3)
    history.output["att_a2"] = (history.runs[1].output, 0)


def nobody_placed_it(history: History) -> None:
    history.runs.append(Run("a", "att_zz", 3, "n3", 40, 41, 0))


def under_another_number(history: History) -> None:
    history.runs[1] = replace(history.runs[1], number=1)


def refused_and_ran(history: History) -> None:
    history.attempts[0] = replace(history.attempts[0], state="rejected")


def one_attempt_ran_twice(history: History) -> None:
    history.runs.append(Run("a", "att_a2", 2, "n3", 30, 31, 0, signs=2))


def two_copies_of_an_exclusive_job(history: History) -> None:
    history.attempts.append(AttemptRow("att_b2", "job_b", 2, "n2", "lost", 1, 10, 11, 12, ""))
    history.ends.append(EndRow("job_b", "job.queued", "att_b2"))
    history.runs.append(Run("b", "att_b2", 2, "n2", 11.99, 13))


def two_copies_for_long(history: History) -> None:
    history.runs[0] = replace(history.runs[0], last=40)
    history.runs[1] = replace(history.runs[1], last=36)


def a_third_copy_beside_the_first(history: History) -> None:
    """The one in between ended early: the first still lives when the third begins."""
    history.attempts.insert(1, AttemptRow("att_a0", "job_a", 3, "n3", "lost", 1, 9, 10, 18, "node_lost"))
    history.ends.append(EndRow("job_a", "job.queued", "att_a0"))
    history.runs[0] = replace(history.runs[0], last=60)
    history.runs.append(Run("a", "att_a0", 3, "n3", 12, 13))
    history.runs[1] = replace(history.runs[1], last=40)


def a_line_is_lost(history: History) -> None:
    history.output["att_a2"] = (b"2\nover 0\n", 0)


def a_line_is_doubled(history: History) -> None:
    history.output["att_a2"] = (b"2\n2\n1\nover 0\n", 0)


def no_output_at_all(history: History) -> None:
    del history.output["att_b1"]


def a_former_leader_writes(history: History) -> None:
    history.terms[:] = [1, 2, 1]


def failed_without_a_cause(history: History) -> None:
    history.jobs[1] = replace(history.jobs[1], state="failed")
    history.attempts[2] = replace(history.attempts[2], state="failed")
    history.ends[2] = EndRow("job_b", "job.failed", "att_b1")


def cancelled_by_nobody(history: History) -> None:
    history.jobs[1] = replace(history.jobs[1], state="cancelled")
    history.attempts[2] = replace(history.attempts[2], state="cancelled")
    history.ends[2] = EndRow("job_b", "job.cancelled", "att_b1")


def a_hopeless_job_succeeds(history: History) -> None:
    history.accepted[1] = replace(history.accepted[1], good=False)


def failed_though_it_succeeded(history: History) -> None:
    history.jobs[1] = replace(history.jobs[1], state="failed")
    history.ends[2] = EndRow("job_b", "job.failed", "att_b1")


PLANTED: Sequence[tuple[Callable[[History], None], str]] = [
    (not_on_record, "lost"),
    (never_over, "lost"),
    (no_task, "lost"),
    (recorded_twice, "double"),
    (ended_twice, "double"),
    (never_recorded, "double"),
    (recorded_while_it_runs, "double"),
    (two_jobs_for_one_key, "double"),
    (never_ran, "unproven"),
    (cut_off_and_called_a_success, "unproven"),
    (failed_and_called_a_success, "unproven"),
    (nobody_placed_it, "orphan"),
    (under_another_number, "orphan"),
    (refused_and_ran, "orphan"),
    (one_attempt_ran_twice, "rerun"),
    (two_copies_of_an_exclusive_job, "exclusive"),
    (two_copies_for_long, "overlap"),
    (a_third_copy_beside_the_first, "overlap"),
    (a_line_is_lost, "output"),
    (a_line_is_doubled, "output"),
    (no_output_at_all, "output"),
    (a_former_leader_writes, "terms"),
    (failed_without_a_cause, "wrong"),
    (cancelled_by_nobody, "wrong"),
    (a_hopeless_job_succeeds, "wrong"),
    (failed_though_it_succeeded, "wrong"),
]


@pytest.mark.parametrize(("plant", "promise"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_it_catches(plant: Callable[[History], None], promise: str) -> None:
    history = History()
    plant(history)
    assert broken(history.judged()) == {promise}


def test_every_promise_that_is_its_own_has_a_planted_violation() -> None:
    assert {promise for _, promise in PLANTED} == set(PROMISES) - {"stuck", "fall", "leak"}


def test_an_overlap_within_the_limit_is_reported_in_seconds() -> None:
    history = History()
    history.runs[0] = replace(history.runs[0], last=23.5)
    verdict = history.judged()
    assert verdict.good
    assert [(overlap.name, overlap.seconds) for overlap in verdict.overlaps] == [("a", 3.5)]


def test_a_gap_that_is_recorded_is_told() -> None:
    history = History()
    history.output["att_a2"] = (b"over 0\n", 4)
    verdict = history.judged()
    assert verdict.good
    assert verdict.gaps == 1


def test_a_job_given_up_after_its_losses_is_told_and_not_lost() -> None:
    history = History()
    history.jobs[0] = replace(history.jobs[0], state="failed", infra_losses=2, reason="lost 2 times")
    history.attempts[1] = replace(history.attempts[1], state="lost")
    history.ends[1] = EndRow("job_a", "job.failed", "att_a2")
    verdict = history.judged()
    assert verdict.good
    assert verdict.given_up == ["a: lost 2 times"]


def test_a_job_that_can_only_fail_fails_after_all_its_tries() -> None:
    history = History()
    history.accepted[1] = replace(history.accepted[1], good=False, max_retries=0)
    failed_without_a_cause(history)
    history.runs[2] = replace(history.runs[2], code=4)
    history.attempts[2] = replace(history.attempts[2], cause="exit_code")
    history.output["att_b1"] = (b"over 4\n", 0)
    assert history.judged().good
    history.accepted[1] = replace(history.accepted[1], max_retries=1)
    assert broken(history.judged()) == {"wrong"}
