"""The suite's own runner: which steps it takes, and what it makes of a test that failed."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests import __main__ as runner
from tests.steps import ALONE, CLUSTER, FOLDERS, PART, ROOT, STEPS, steps_of


def test_every_folder_with_a_step_of_its_own_is_there() -> None:
    assert [name for name in FOLDERS if not (ROOT / name).is_dir()] == []


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ([], STEPS),
        (["-x", "-k", "lease"], STEPS),
        ([str(ROOT)], STEPS),
        ([str(ROOT / "core"), "-x"], (PART,)),
        ([f"{ROOT / 'core' / 'test_ids.py'}::test_one"], (PART,)),
        ([str(ROOT / "simulation")], (ALONE,)),
        ([str(ROOT / "core"), str(ROOT / "system")], (PART, CLUSTER, ALONE)),
    ],
    ids=str,
)
def test_only_the_steps_of_the_given_paths_are_taken(arguments: list[str], steps: tuple[object, ...]) -> None:
    assert steps_of(arguments) == steps


def test_a_record_gives_the_seconds_of_each_test_and_the_first_failure(tmp_path: Path) -> None:
    phases = [
        {"test": "a", "seconds": 1.0, "failed": None},
        {"test": "a", "seconds": 2.0, "failed": "call: first"},
        {"test": "a", "seconds": 0.5, "failed": "teardown: second"},
        {"test": "b", "seconds": 4.0, "failed": None},
    ]
    (tmp_path / "record").write_text("".join(json.dumps(phase) + "\n" for phase in phases))
    took = Counter[str]()
    assert runner._read(tmp_path / "record", took) == {"a": "call: first"}
    assert took == {"a": 3.5, "b": 4.0}


@pytest.mark.parametrize("codes", [{"a": 0, "b": 0}, {"a": 0, "b": 1}], ids=str)
def test_what_fails_twice_is_red_and_what_passes_alone_is_noted_as_unstable(
    codes: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_pytest", lambda *arguments: codes[arguments[-1]])
    failures = {"a": "call: it broke", "b": "setup: no server"}
    assert runner._look_again(failures, tmp_path / "notes", "--randomly-seed=1") == max(codes.values())
    noted = [f"UNSTABLE: {test}, {how}" for test, how in failures.items() if codes[test] == 0]
    assert (tmp_path / "notes").read_text().splitlines() == noted
