"""What the pages show is right: commands the shell and the real command line take, data that the real readers take.

Blocks marked `console` are also run, by tests/system/test_pages.py. One marked `sh` names what covers it: a test that
has it typed, or one that runs the same commands.
"""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.house.command_lines import fault, fixed_words, simple_commands, windlass_lines
from tests.house.pages import ROOT, Block, blocks, pages, typed
from windlass.cli.main import COMMANDS
from windlass.core.fields import parse_spec
from windlass.core.spec import JobSpec
from windlass.sources import load, variable

SHELL = [block for page in pages() for block in blocks(page, "console", "sh")]
#: Pages beside what they are about, such as deploy/, are for those who read that anyway.
UNRUN = [block for block in SHELL if block.language == "sh" and block.page.partition("/")[0] in ("docs", block.page)]
NOTE = re.compile(r"covered by: (\S+(?:, \S+)*)|not run: \S.*")
#: A word that is a file or folder of the project.
FILE = re.compile(r"(?:deploy|examples|docs|scripts|tests)/[\w./-]+|docker-compose\.yml")


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


def shell(block: Block) -> str:
    """What is typed."""
    return "\n".join(step.command for step in typed(block)) if block.language == "console" else block.text


@pytest.mark.parametrize("block", UNRUN, ids=place)
def test_what_is_not_run_here_says_what_covers_it(block: Block) -> None:
    found = NOTE.fullmatch(block.note)
    assert found, "write above it: <!-- covered by: tests/... -->, or <!-- not run: why -->"
    if found[1] is not None:
        assert not left_out(block, *(ROOT / name for name in found[1].split(", "))), f"{found[1]} has nothing of these"


def left_out(block: Block, *files: Path) -> set[str]:
    """What the block has typed and nothing in the files speaks of. That is none of it where one has the page itself
    typed, which it tells by naming the page, or the folder of its like, and the heading."""
    words: set[str] = set()
    for texts in map(spoken, files):
        if block.heading in texts and {block.page, f"{Path(block.page).parent}/"} & texts:
            return set()
        words |= {word for text in texts for word in re.findall(r"[-\w.]+", text)}
    words |= {variable(word) for word in words if re.fullmatch(r"[a-z]+\.[a-z_]+", word)}
    return fixed_words(block.text) - words


def spoken(file: Path, deep: bool = True) -> set[str]:
    """The texts in a program's code, and in that of the tests it imports; not its comments."""
    if file.suffix != ".py":
        return {file.read_text()}
    found: set[str] = set()
    tree = ast.parse(file.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            found.add(node.value)
        elif deep and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            module = ROOT / f"{(node.module or '').replace('.', '/')}.py"
            found |= spoken(module, deep=False) if module.exists() else set()
    return found


@pytest.mark.parametrize("block", SHELL, ids=place)
def test_the_shell_takes_it(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=shell(block), capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SHELL, ids=place)
def test_every_windlass_command_is_one(block: Block) -> None:
    for words in windlass_lines(shell(block)):
        assert not fault(words), f"windlass {' '.join(words)}: {fault(words)}"


@pytest.mark.parametrize("block", SHELL, ids=place)
def test_the_files_and_targets_it_names_are_there(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in simple_commands(shell(block)):
        for word in words:
            if FILE.fullmatch(word):
                assert (ROOT / word).exists(), word
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets


def test_nobody_is_told_to_install_what_others_publish_under_our_name() -> None:
    told = re.compile(r"\b(?:pip|pipx|uv)\b[^\n`&;|]*? (?:install|run|add)\b[^\n`&;|]*? ['\"]?windlass\b(?!/)")
    assert told.search("pip install 'windlass[otel]'")
    files = [*pages(), *(file for folder in ("src", "deploy", "scripts") for file in (ROOT / folder).rglob("*"))]
    for file in [*files, ROOT / "Dockerfile", ROOT / "docker-compose.yml"]:
        if file.is_file() and file.suffix != ".pyc":
            assert not (found := told.search(file.read_text())), f"{file.relative_to(ROOT)}: {found[0]}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_data_is_well_formed(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "json", "yaml", "toml", "python"):
        match block.language:
            case "json":
                json.loads(block.text)
            case "yaml":
                for document in yaml.safe_load_all(block.text):
                    if isinstance(document, dict) and {"image", "command"} & document.keys():
                        assert isinstance(parse_spec(document), JobSpec), place(block)
            case "toml":
                tomllib.loads(block.text)
                file = tmp_path / "windlass.toml"
                file.write_text(block.text)
                load(file, environ={})
            case _:
                compile(block.text, place(block), "exec")


def test_the_page_of_the_command_line_has_every_command_and_every_variable() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    named = {words.split()[0] for words in re.findall(r"`([a-z][^`\n]*)`", page)}
    assert set(COMMANDS) <= named
    for name in ("WINDLASS_URL", "WINDLASS_TOKEN", "WINDLASS_TOKEN_FILE", "WINDLASS_CA_FILE"):
        assert f"`{name}`" in page, name


def test_the_checks_see_what_is_wrong() -> None:
    assert "No such option" in fault(["run", "--no-such-option", "--", "true"])
    assert "there is no command" in fault(["no-such-command"])
    assert not fault(["run", "-q", "--max-retries", "0", "--", "sh", "-c", "exit 7", "--no-such-option"])
    text = "docker-compose exec api windlass ps | head && X=1 windlass status >out\ncat <<END\nwindlass lies\nEND\n"
    assert list(windlass_lines(text)) == [["ps"], ["status"]]


def test_what_covers_a_block_has_its_commands() -> None:
    page, heading = "docs/how-to/compose.md", "Stop"
    block = Block(
        page, heading, 1, "", "sh", "export WINDLASS_API_URL=x\nwindlass token create --join | head -1\nmake check\n"
    )
    assert fixed_words(block.text) == {"WINDLASS_API_URL", "token", "create", "--join", "make", "check"}
    here = Path(__file__)
    assert not left_out(block, here), "this test names its page and heading"
    assert "--join" in left_out(block._replace(heading="Nowhere"), ROOT / ".ci/run")
