"""No page leads nowhere, and no page is out of reach."""

import re
from pathlib import Path

import pytest

from tests.house.pages import ROOT, anchor, anchors, links, pages

NAMED = re.compile(r"\b(?:docs|examples|deploy)/[\w./-]*\w\.(?:md|json|yaml|yml|toml)\b")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, fragment in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} is not there"
        if fragment:
            assert fragment in anchors(target), f"{path} has no heading for #{fragment}"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs/README.md"
    seen, due = {index}, [index]
    while due:
        page = due.pop()
        found = {(page.parent / path).resolve() for path, _ in links(page) if path.endswith(".md")}
        due += found - seen
        seen |= found
    assert set((ROOT / "docs").rglob("*.md")) <= seen


def test_the_documents_the_code_names_are_there() -> None:
    for folder in ("src", "tests", "bench", "scripts", "examples"):
        for file in (ROOT / folder).rglob("*.py"):
            for name in NAMED.findall(file.read_text()):
                assert (ROOT / name).exists(), f"{file.relative_to(ROOT)} names {name}"


def test_a_heading_becomes_its_anchor() -> None:
    assert anchor("What `windlass up` does, [really](x.md)") == "what-windlass-up-does-really"
