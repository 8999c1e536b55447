"""Workers of the version before go on with schedulers and API of this one: what each sends, the other can read."""

from typing import Any

import msgspec
import pytest

from tests.builders import T0, a_spec, a_task, an_attempt
from tests.compatibility import wire_0_1 as old
from windlass.core.ids import AttemptId, JobId, NodeId
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.stream import orders, wire

NODE, ATTEMPT, JOB = NodeId("node_1"), AttemptId("att_1"), JobId("job_1")


def read_by_old(*messages: wire.Message) -> list[Any]:
    """What a worker of 0.1 makes of an entry of ours."""
    return old.commands().read([wire.encode(messages)])


def read_now(*messages: old.Message) -> list[wire.Report]:
    """What we make of an entry of a worker of 0.1."""
    reader = wire.reports()
    found = reader.read([old.encode(messages)])
    assert reader.skipped == 0
    return found


def test_an_old_worker_reads_a_launch() -> None:
    task = a_task(TaskState.ACTIVE, a_spec(job_deadline=60.0, max_infra_losses=9, exclusive=True))
    attempt = an_attempt(AttemptState.PLACED)
    ours = orders.launch(task, attempt, msgspec.json.encode(task.spec).decode(), T0)
    [launch] = read_by_old(ours)
    assert (launch.attempt_id, launch.fence, launch.number, launch.job_id) == (attempt.id, 1, 1, task.job_id)
    assert launch.deadline_in == 60
    known = {name: getattr(launch.spec, name) for name in old.JobSpec.__dataclass_fields__}
    assert msgspec.to_builtins(known) == {
        name: value for name, value in msgspec.to_builtins(task.spec).items() if name in known
    }


@pytest.mark.parametrize("cause", [None, *Cause])
def test_an_old_worker_reads_every_stop(cause: Cause | None) -> None:
    """Also one whose cause is younger than it."""
    attempt = an_attempt(AttemptState.STOPPING, stop_cause=cause)
    [stop] = read_by_old(orders.stop(attempt))
    assert (stop.attempt_id, stop.fence) == (attempt.id, attempt.fence)
    assert stop.cause in (old.Cause.CANCELLED, old.Cause.TIMEOUT)


def test_an_old_worker_passes_over_what_it_does_not_know() -> None:
    known = (wire.Forget((ATTEMPT,)), wire.Introduce())
    reader = old.commands()
    found = reader.read(
        [wire.encode([wire.Heard(), known[0], wire.Heard(draining=True), wire.Tell((ATTEMPT,)), known[1]])]
    )
    assert [type(message).__name__ for message in found] == ["Forget", "Introduce"]
    assert found[0].attempt_ids == (ATTEMPT,)
    assert reader.skipped == 3


def test_every_order_is_known_to_old_workers_or_may_be_missed() -> None:
    """A new kind of order needs a thought: may a worker of the version before do without it?"""
    ours = {kind.__struct_config__.tag for kind in wire.CommandOut.__args__}  # pyright: ignore
    theirs = {kind.__struct_config__.tag for kind in old.Command.__args__}  # pyright: ignore
    # Without `tell` an old worker repeats only ends, by the clock: of a start, its node is learnt with its end.
    assert ours - theirs == {"heard", "tell"}


SENT_BY_OLD: list[tuple[old.Message, wire.Report]] = [
    (
        old.Hello(NODE, "n1", 1000, 2**30, ("docker",), "0.1.0", {"zone": "a"}, {"docker": {"available": True}}),
        wire.Hello(NODE, "n1", 1000, 2**30, ("docker",), "0.1.0", {"zone": "a"}, {"docker": {"available": True}}),
    ),
    (old.Beat(NODE, (ATTEMPT,)), wire.Beat(NODE, (ATTEMPT,))),
    (old.Prepared(NODE, ATTEMPT), wire.Prepared(NODE, ATTEMPT)),
    (old.Started(NODE, ATTEMPT, 1.5), wire.Started(NODE, ATTEMPT, 1.5)),
    (old.Refused(NODE, ATTEMPT, "full"), wire.Refused(NODE, ATTEMPT, "full")),
    *(
        (
            old.Exited(NODE, ATTEMPT, 0.5, cause, 1, "so", 2.5),
            wire.Exited(NODE, ATTEMPT, 0.5, Cause(cause) if cause else None, 1, "so", 2.5),
        )
        for cause in (None, *old.Cause)
    ),
]


@pytest.mark.parametrize(("theirs", "ours"), SENT_BY_OLD, ids=lambda m: type(m).__name__)
def test_what_an_old_worker_sends_is_read(theirs: old.Message, ours: wire.Report) -> None:
    assert read_now(theirs) == [ours]


def test_every_report_of_an_old_worker_is_tried_here() -> None:
    tried = {type(theirs) for theirs, _ in SENT_BY_OLD}
    assert tried == set(old.Report.__args__) - {old.Bell}  # pyright: ignore


def test_a_spec_as_0_1_stored_it_is_read_with_the_defaults_of_today() -> None:
    stored = msgspec.json.encode(old.JobSpec(command=("true",), driver=old.Driver.PROCESS, max_retries=1))
    spec = msgspec.json.decode(stored, type=type(a_spec()))
    assert (spec.max_retries, spec.max_infra_losses, spec.command) == (1, 5, ("true",))
