"""The house rules of the code: layers, a pure core, small files, words for everything."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "windlass"
FILES = sorted(SOURCE.rglob("*.py"))
#: Files over the limit, and why.
LONG_FILES: dict[str, str] = {}
FILE_LIMIT = 350
#: Functions over the limit, and why.
LONG_FUNCTIONS: dict[str, str] = {}
FUNCTION_LIMIT = 60
IMPURE = set("asyncio time random secrets logging os io socket subprocess threading".split())  # noqa: SIM905


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def faulty(test: Callable[[Path], bool]) -> list[str]:
    """The files a test speaks against."""
    return [str(path.relative_to(SOURCE)) for path in FILES if test(path)]


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted((SOURCE / "core").rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_knows_only_itself_and_the_standard_library(path: Path) -> None:
    for name in imports_of(tree_of(path)):
        root = name.split(".")[0]
        assert name.startswith("windlass.core") or root in sys.stdlib_module_names, name
        assert root not in IMPURE, f"{name}: time, chance and the world come in as values"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "datetime":
            assert node.attr not in ("now", "utcnow", "today"), "a moment may be read from text, no clock"


def test_only_the_store_knows_sql() -> None:
    sql = re.compile(r"\b(SELECT .* FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b", re.DOTALL)
    for path in FILES:
        if "store" in path.parts:
            continue
        texts = [n.value for n in ast.walk(tree_of(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        found = [text for text in texts if sql.search(text)]
        assert not found, f"{path.relative_to(SOURCE)}: {found}"


def test_every_module_says_what_it_is() -> None:
    assert not faulty(lambda path: not ast.get_docstring(tree_of(path)))
    assert not faulty(lambda path: path.stem in ("utils", "util", "common", "helpers", "misc"))


def test_nothing_is_left_for_later() -> None:
    assert not faulty(lambda path: bool(re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text())))


def test_nothing_tells_of_the_machine_it_was_written_on() -> None:
    assert not faulty(lambda path: bool(re.search(r"/(work|home)/\w|/tmp/\w", path.read_text())))


def test_files_are_small() -> None:
    long = faulty(lambda path: path.read_text().count("\n") > FILE_LIMIT)
    assert long == [*LONG_FILES], "split it, or give the reason in LONG_FILES"


def test_functions_are_small() -> None:
    long: set[str] = set()
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (node.end_lineno or 0) - node.lineno >= FUNCTION_LIMIT:
                long.add(f"{path.relative_to(SOURCE)}:{node.name}")
    assert long == set(LONG_FUNCTIONS), "split it, or give the reason in LONG_FUNCTIONS"
