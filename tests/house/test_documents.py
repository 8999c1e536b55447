"""Documents that are made from the code are current."""

import ast
import re

import pytest

from tests.house import errors_page, events_page
from tests.house.documents import MADE, REFERENCE
from tests.house.pages import anchors
from tests.house.states_page import ATTEMPT_WORDS, CAUSE_WORDS, NODE_WORDS, TASK_WORDS
from windlass.api import problems
from windlass.core.access import Role
from windlass.core.attempt import TRANSITIONS
from windlass.core.states import AttemptState, Cause, NodeState, TaskState


@pytest.mark.parametrize("name", MADE)
def test_a_document_is_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text() == MADE[name](), "run `make docs`, look at the difference, commit it"


def test_every_state_and_cause_has_its_words() -> None:
    assert (set(TASK_WORDS), set(ATTEMPT_WORDS)) == (set(TaskState), set(AttemptState))
    assert (set(CAUSE_WORDS), set(NODE_WORDS)) == (set(Cause), set(NodeState))


def test_every_event_has_its_words() -> None:
    types = events_page.found()
    assert set(events_page.WORDS) == set(types)
    assert events_page.in_sql() <= set(types)
    assert set(events_page.FIELDS) == set().union(*types.values())


def test_every_problem_has_its_words_and_a_heading_that_its_type_leads_to() -> None:
    kinds = errors_page.kinds()
    assert set(errors_page.WORDS) == {kind.code for kind in kinds}
    headings = anchors(REFERENCE / "errors.md")
    for kind in kinds:
        urn = problems.problem(kind.status, "", code=kind.code)["type"]
        assert urn.removeprefix("urn:windlass:problem:") in headings, urn


def test_every_status_the_api_raises_has_its_kind() -> None:
    statuses = {kind.status for kind in errors_page.kinds()}
    raised = {ast.literal_eval(call.args[0]) for call in errors_page.calls("HTTPException")}
    assert raised <= statuses


def test_every_transition_is_drawn() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+):", (REFERENCE / "states.md").read_text(), re.MULTILINE))
    for (state, _), targets in TRANSITIONS.items():
        for target in targets:
            assert state == target or (state, target) in drawn, f"{state} -> {target}"


def test_the_glossary_has_every_word_of_the_api() -> None:
    glossary = (REFERENCE / "glossary.md").read_text()
    for word in (
        "job",
        "task",
        "attempt",
        "spec",
        "status",
        "queue",
        "node",
        "worker",
        "driver",
        "place",
        "plan",
        "lease",
    ):
        assert re.search(rf"\*\*{word}\b", glossary), word


def test_the_threats_have_a_row_for_each_token() -> None:
    page = (REFERENCE.parent / "explanation/security.md").read_text()
    for role in Role:
        row = "the worker's process on a node" if role is Role.NODE else f"(an?|the) `?{role}`? token"
        assert re.search(rf"^\| {row} \|", page, re.MULTILINE), role
