"""Documents that are made from the code are current."""

import re

import pytest

from tests.house.documents import ATTEMPT_WORDS, CAUSE_WORDS, DOCS, MADE, NODE_WORDS, TASK_WORDS
from windlass.core.attempt import TRANSITIONS
from windlass.core.states import AttemptState, Cause, NodeState, TaskState


@pytest.mark.parametrize("name", MADE)
def test_a_document_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == MADE[name](), "run `make docs`, look at the difference, commit it"


def test_every_state_and_cause_has_its_words() -> None:
    assert (set(TASK_WORDS), set(ATTEMPT_WORDS)) == (set(TaskState), set(AttemptState))
    assert (set(CAUSE_WORDS), set(NODE_WORDS)) == (set(Cause), set(NodeState))


def test_every_transition_is_drawn() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+):", (DOCS / "states.md").read_text(), re.MULTILINE))
    for (state, _), targets in TRANSITIONS.items():
        for target in targets:
            assert state == target or (state, target) in drawn, f"{state} -> {target}"


def test_the_glossary_has_every_word_of_the_api() -> None:
    glossary = (DOCS / "glossary.md").read_text()
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
