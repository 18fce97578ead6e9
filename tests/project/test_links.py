"""Every link, picture and heading that a page leads to exists, and so does every page that a file names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.project.pages import ROOT, anchors, links, markdown

PAGES = markdown()


def broken(page: Path) -> list[str]:
    """Links of ``page`` that lead nowhere."""
    wrong = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links, pictures and #headings."""
    assert not broken(page)


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A missing file, a missing picture and a missing heading are found; what exists and what is code is not."""
    (tmp_path / "other.md").write_text("# One heading: of `code`\n")
    good = "[a](other.md) [b](other.md#one-heading-of-code) [c](https://example.org/x) `[d](e.md)`\n"
    bad = "[a](gone.md) ![b](gone.png) [c](other.md#another) [d](#here)\n"
    (tmp_path / "page.md").write_text(f"{good}{bad}```sh\n[a](code.md)\n```\n")
    assert broken(tmp_path / "page.md") == ["gone.md", "gone.png", "other.md#another", "#here"]


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page under docs/."""
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    missing = [page for page in PAGES if "docs" in page.relative_to(ROOT).parts[:1] and page != index]
    assert not [str(page.relative_to(ROOT)) for page in missing if page not in reached]


def test_pages_named_in_files_exist() -> None:
    """Docstrings, messages and pages name pages by their path from the root: docs/FOLDER/PAGE.md."""
    named = re.compile(r"\bdocs/[\w/]+\.md\b")
    sources = [
        file
        for folder in ("llmsched_env", "policies", "train", "eval", "tests", "data", "examples")
        for file in (ROOT / folder).rglob("*.py")
    ]
    for file in [*sources, *PAGES, ROOT / "Makefile"]:
        for name in named.findall(file.read_text(encoding="utf-8")):
            assert (ROOT / name).exists() or "FOLDER" in name, f"{file.relative_to(ROOT)}: {name}"


def missing_files(page: Path) -> list[str]:
    """Python files that ``page`` names by their path from the root and that do not exist."""
    named = re.compile(r"(?<![\w/.])(?:llmsched|llmsched_env|policies|train|eval|tests|data|examples)/[\w/]+\.py\b")
    return [name for name in named.findall(page.read_text(encoding="utf-8")) if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_pages_exist(page: Path) -> None:
    """In prose and in commands; CAPITALS stand for a name of the reader's own."""
    assert not [name for name in missing_files(page) if not re.search(r"/[A-Z]+\.py", name)]


def test_missing_files_are_found(tmp_path: Path) -> None:
    """A wrong name is found, in prose and in code; a right one is not."""
    (tmp_path / "page.md").write_text("`eval/gone.py`, eval/compare.py\n```sh\npython train/gone.py\n```\n")
    assert missing_files(tmp_path / "page.md") == ["eval/gone.py", "train/gone.py"]
