"""Processes of the version before go on beside those of this one: what either sends, the other can read."""

from types import ModuleType
from typing import Any

import msgspec
import pytest

from tests.builders import T0, a_spec, a_task, an_attempt
from tests.compatibility import wire_0_2 as old
from windlass.core.states import AttemptState, Cause, TaskState
from windlass.core.trace import TraceContext
from windlass.stream import orders, wire

#: What may be said, by the reader's function and the name of the union it reads.
FAMILIES = {"commands": "Command", "reports": "Report", "news": "News"}
NODE, ATTEMPT = {"node_id": "node_1"}, {"attempt_id": "att_1"}
#: A message of each kind of 0.2, all fields set.
SAMPLES: dict[str, dict[str, Any]] = {
    "launch": {**ATTEMPT, "fence": 2, "number": 3, "job_id": "job_1", "deadline_in": 4.5}
    | {"spec": old.JobSpec(command=("true",), driver=old.Driver.PROCESS, max_retries=1, env={"A": "b"})},
    "stop": {**ATTEMPT, "fence": 2, "cause": "drained", "message": "so"},
    "forget": {"attempt_ids": ("att_1", "att_2")},
    "introduce": {},
    "heard": {"draining": True},
    "tell": {"attempt_ids": ("att_1",)},
    "hello": {**NODE, "name": "n1", "millis": 1000, "memory": 2**30, "drivers": ("docker",), "version": "0.2.0"}
    | {"labels": {"zone": "a"}, "facts": {"docker": {"available": True}}, "draining": True},
    "beat": {**NODE, "attempts": ("att_1", "att_2"), "ended": ("att_2",), "boot": "b", "at": 1.5},
    "bye": NODE,
    "prepared": NODE | ATTEMPT,
    "started": {**NODE, **ATTEMPT, "ago": 1.5},
    "exited": {**NODE, **ATTEMPT, "ago": 0.5, "cause": "oom", "exit_code": 137, "message": "so", "started_ago": 2.5},
    "refused": {**NODE, **ATTEMPT, "message": "full"},
    "bell": {"what": "jobs", "shapes": (1, 2), "priority": 5},
    "ended": {"job_ids": ("job_1",)},
    "output": {"attempt_ids": ("att_1",)},
    "happened": {},
}


def kinds(module: ModuleType, family: str) -> dict[str, type[Any]]:
    return {kind.__struct_config__.tag: kind for kind in getattr(module, FAMILIES[family]).__args__}


def one(module: ModuleType, family: str, entry: bytes) -> Any:
    """What this version makes of an entry with one message."""
    reader = getattr(module, family)()
    (message,) = reader.read([entry])
    assert reader.skipped == 0
    return message


def known(message: Any) -> dict[str, Any]:
    """What 0.2 knows of it, as plain values."""
    plain = msgspec.to_builtins(message)
    if "spec" in plain:
        plain["spec"] = {name: plain["spec"][name] for name in old.JobSpec.__dataclass_fields__}
    return {name: value for name, value in plain.items() if name == "type" or name in SAMPLES[plain["type"]]}


SPOKEN = [(family, tag) for family in FAMILIES for tag in kinds(old, family)]


@pytest.mark.parametrize(("family", "tag"), SPOKEN)
def test_what_0_2_sends_is_read(family: str, tag: str) -> None:
    sent = kinds(old, family)[tag](**SAMPLES[tag])
    assert set(SAMPLES[tag]) == set(sent.__struct_fields__)
    assert known(one(wire, family, old.encode([sent]))) == known(sent)


@pytest.mark.parametrize(("family", "tag"), SPOKEN)
def test_0_2_reads_what_we_send(family: str, tag: str) -> None:
    """Also where we say more than it knows."""
    ours = kinds(wire, family)[tag]
    more = {name: "more" for name in ours.__struct_fields__ if name not in SAMPLES[tag]}
    sent = ours(**SAMPLES[tag], **more)
    assert known(one(old, family, wire.encode([sent]))) == known(sent)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_is_known_to_0_2_or_may_be_missed(family: str) -> None:
    """A new kind needs a thought: may a process of the version before do without it?"""
    assert kinds(wire, family).keys() == kinds(old, family).keys()


def test_0_2_passes_over_what_it_does_not_know() -> None:
    class Tomorrow(wire.Message, frozen=True, tag="tomorrow"):
        """A kind that came later."""

    reader = old.commands()
    found = reader.read([wire.encode([Tomorrow(), wire.Introduce(), Tomorrow(), wire.Heard()])])
    assert ([type(message) for message in found], reader.skipped) == ([old.Introduce, old.Heard], 2)


def test_a_worker_of_0_2_reads_a_launch() -> None:
    spec = a_spec(job_deadline=60.0, max_infra_losses=9, exclusive=True, start_delay=1.0)
    task = a_task(TaskState.ACTIVE, spec, trace=TraceContext("1" * 32, "1" * 16, 1))
    attempt = an_attempt(AttemptState.PLACED)
    ours = orders.launch(task, attempt, msgspec.json.encode(task.spec).decode(), T0)
    launch = one(old, "commands", wire.encode([ours]))
    assert (launch.attempt_id, launch.fence, launch.number, launch.job_id) == (attempt.id, 1, 1, task.job_id)
    assert launch.deadline_in == 60
    theirs = msgspec.to_builtins(launch.spec)
    assert theirs == {name: value for name, value in msgspec.to_builtins(spec).items() if name in theirs}


@pytest.mark.parametrize("cause", [None, *Cause])
def test_a_worker_of_0_2_reads_every_stop(cause: Cause | None) -> None:
    """Also one whose cause is younger than it."""
    attempt = an_attempt(AttemptState.STOPPING, stop_cause=cause)
    stop = one(old, "commands", wire.encode([orders.stop(attempt)]))
    assert (stop.attempt_id, stop.fence) == (attempt.id, attempt.fence)
    assert stop.cause in (old.Cause.CANCELLED, old.Cause.TIMEOUT)


def test_a_spec_as_0_2_stored_it_is_read_with_the_defaults_of_today() -> None:
    stored = msgspec.json.encode(old.JobSpec(command=("true",), driver=old.Driver.PROCESS, max_retries=1))
    assert msgspec.json.decode(stored, type=type(a_spec())) == type(a_spec())(
        command=("true",), driver=a_spec().driver, max_retries=1
    )
