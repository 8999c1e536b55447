"""Planted defects: small mistakes of the kind people make. The simulation must catch each within so many seeds.

They are kept as data: in which function what text stands instead of which.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutation:
    """`edits` are (function, text, text instead); `seeds` is within how many it must be caught, from the seed `first`,
    which is not 0 where the catch is far off and the tests should not wait for it."""

    name: str
    sentence: str
    seeds: int
    edits: tuple[tuple[str, str, str], ...]
    first: int = 0


MUTATIONS = (
    Mutation(
        "no_fence",
        "A leader's statement forgets to look whether its term still stands.",
        300,
        (("tests.simulation.ledger:Ledger.holds_term", 'self.lease["term"] == term', "term is not None"),),
    ),
    Mutation(
        "no_version",
        "The one door moves a row that somebody else has moved meanwhile.",
        300,
        (("tests.simulation.twins:_move", 'task["version"] != step["base"]', "False"),),
    ),
    Mutation(
        "late_outcome",
        "The report of a lost attempt, come late, becomes its outcome.",
        300,
        (
            ("windlass.core.attempt:_report", "attempt is None or attempt.state.terminal", "attempt is None"),
            (
                "windlass.core.attempt:_report",
                "get((attempt.state,",
                "get((A.RUNNING if attempt.state is A.LOST else attempt.state,",
            ),
            ("windlass.core.attempt:_report", "attempt.number != task.attempts", "False"),
        ),
    ),
    Mutation(
        "loss_is_failure",
        "An attempt that the infrastructure lost is charged to the job as a failure.",
        200,
        (("windlass.core.attempt:_exit", "state = A.LOST", "state = A.FAILED"),),
    ),
    Mutation(
        "one_retry_too_many",
        "The budget of retries is compared with the wrong sign.",
        100,
        (("windlass.core.retry:after", "task.retries >= task.spec", "task.retries > task.spec"),),
    ),
    Mutation(
        "exclusive_replaced",
        "An exclusive job is placed anew as soon as its node is lost.",
        300,
        (
            ("windlass.core.attempt:_lose", "task.spec.exclusive and not event.gone", "False"),
            ("windlass.scheduler.watch:Watch._lose", "if not picture.live[a].task.spec.exclusive", ""),
        ),
    ),
    Mutation(
        "forget_before_commit",
        "A node may forget an outcome before the ledger has it.",
        300,
        (
            (
                "windlass.scheduler.ingest:facts",
                "now = desk.picture.now()",
                "now = desk.picture.now(); [desk.forget(r.node_id, [r.attempt_id]) for r in reports"
                " if isinstance(r, wire.Exited)]",
            ),
            (
                "windlass.scheduler.leader:_cycle",
                "ends = await ingest.moves(",
                "told = ingest.facts(desk, reports); await desk.flush(); ends = await ingest.moves(",
            ),
        ),
    ),
    Mutation(
        "outbox_unswept",
        "Orders that were committed and never sent are looked for no more.",
        200,
        (("windlass.scheduler.leader:_sweep", "await ship.run_once(desk, ship.STUCK_S)", "pass"),),
    ),
    Mutation(
        "launch_unrepaired",
        "An order that was lost on its way is not sent again.",
        300,
        (("windlass.scheduler.inventory:Inventory._missing", "desk.commands[node_id].extend(sent)", "pass"),),
    ),
    Mutation(
        "ended_in_time_unseen",
        "A limit that passes while the engine is away counts against what had ended in time.",
        100,
        (("windlass.worker.runner:Run._in_time", "return self._seen_start and outcome", "return False and outcome"),),
        first=700,
    ),
    Mutation(
        "end_not_journalled",
        "An outcome is reported without having been written down.",
        200,
        (("windlass.worker.runner:Run._finish", "journal.ended(attempt_id, ended)", "pass"),),
    ),
    Mutation(
        "nothing_adopted",
        "What a worker finds when it comes back is removed, not adopted.",
        200,
        (("windlass.worker.adopt:adopt", "elif attempt_id in found:", "elif attempt_id in found and False:"),),
    ),
    Mutation(
        "taken_down_unseen",
        "What an engine took down while its worker was away is charged to the job.",
        200,
        (
            ("windlass.driver.taken_down:unseen", "if in_doubt and not same_engine", "if False"),
            ("windlass.driver.taken_down:unseen", "if rebooted", "if False"),
        ),
    ),
    Mutation(
        "taken_down_seen",
        "What an engine took down before its worker's eyes is charged to the job.",
        100,
        (("windlass.driver.taken_down:Outages.cover", "return any(", "return False and any("),),
    ),
    Mutation(
        "output_left_behind",
        "An end is reported before the attempt's output is stored.",
        100,
        (("windlass.worker.runner:Run._see_through", "await self._drained(shipping)", "pass"),),
    ),
    Mutation(
        "accepted_unwritten",
        "A submit whose commit has an unknown outcome is answered with yes.",
        300,
        (
            (
                "windlass.api.intake:Intake._written",
                "raise",
                "return frozenset(job.id for job in wanted), at",
            ),
        ),
    ),
)


@contextmanager
def planted(mutation: Mutation) -> Generator[None]:
    """While inside, the code has this defect."""
    undo: list[tuple[Any, str, Any]] = []
    try:
        for place in dict.fromkeys(edit[0] for edit in mutation.edits):
            _plant(place, [edit[1:] for edit in mutation.edits if edit[0] == place], undo)
        yield
    finally:
        for owner, name, before in reversed(undo):
            setattr(owner, name, before)


def _plant(place: str, edits: list[tuple[str, str]], undo: list[tuple[Any, str, Any]]) -> None:
    module_name, _, path = place.partition(":")
    module = importlib.import_module(module_name)
    *outer, name = path.split(".")
    owner = getattr(module, outer[0]) if outer else module
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in edits:
        assert source.count(old) >= 1, f"{place} no longer has {old!r}: the defect must be planted anew"
        source = source.replace(old, new)
    scope: dict[str, Any] = {}
    exec(compile(source, f"<{place}>", "exec", flags=_FUTURE, dont_inherit=True), vars(module), scope)
    _replace(owner, name, function, scope[name], undo)
    if owner is module:
        for other in [m for n, m in sys.modules.items() if n.split(".")[0] in ("windlass", "tests")]:
            for known in [known for known, value in vars(other).items() if value is function]:
                _replace(other, known, function, scope[name], undo)


def _replace(owner: Any, name: str, before: Any, after: Any, undo: list[tuple[Any, str, Any]]) -> None:
    undo.append((owner, name, before))
    setattr(owner, name, after)


_FUTURE = __import__("__future__").annotations.compiler_flag
