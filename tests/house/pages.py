"""The project's Markdown pages, and what their links and headings are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")


class Link(NamedTuple):
    """A link of a page: where to, without and with the place inside the page."""

    path: str
    anchor: str


def pages() -> list[Path]:
    """Every page that belongs to the project."""
    folders = [ROOT / name for name in ("docs", "examples", "deploy", "tests", "bench", "scripts")]
    return sorted([*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))])


def links(page: Path) -> Iterator[Link]:
    """The page's links inside the project; those to other sites are not looked at."""
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield Link(*target.partition("#")[::2])


def anchors(page: Path) -> set[str]:
    """The places a link may lead to: each heading, written as code hosts write it."""
    heads = re.findall(r"^#+ +(.*?) *$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {anchor(head) for head in heads}


def anchor(heading: str) -> str:
    """A heading as the fragment of a URL."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


class Block(NamedTuple):
    """A fenced block of a page. `heading` is the last one before it, `note` the comment in the line above it, such as
    what covers it."""

    page: str
    heading: str
    line: int
    note: str
    language: str
    text: str


class Typed(NamedTuple):
    """A command as it is typed, and what is shown below it."""

    command: str
    shown: str


_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>.*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's blocks in these languages."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    found = [
        Block(name, _heading(text[: one.start()]), text.count("\n", 0, one.start("text")) + 1, *one.groups(""))
        for one in _BLOCK.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def _heading(text: str) -> str:
    """The last one in it."""
    found = re.findall(r"^#+ +(.*?) *$", _FENCE.sub("", text), re.MULTILINE)
    return found[-1] if found else ""


def section(page: str, heading: str, language: str = "sh") -> list[Block]:
    """The blocks under a heading of a page, which is named by its place in the project. There is at least one."""
    found = [block for block in blocks(ROOT / page, language) if block.heading == heading]
    assert found, f"{page} has no block of {language} under {heading!r}"
    return found


def typed(block: Block) -> list[Typed]:
    """The commands of a console block."""
    found: list[Typed] = []
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = lines.index("END") if "<<'END'" in lines[0] else 0
        while lines[end].endswith("\\"):
            end += 1
        found.append(Typed("\n".join(lines[: end + 1]), "\n".join(lines[end + 1 :])))
    return found
