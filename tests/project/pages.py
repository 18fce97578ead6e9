"""The pages of the project: their code blocks, links and headings, for the tests that hold them to the code."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```\s*?$", flags=re.S | re.M)
NOT_RUN = "# not run by the tests"
"""First line of a block, visible to the reader, that the tests leave alone."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    language: str
    text: str

    @property
    def not_run(self) -> bool:
        """Whether the page says that the tests do not run it."""
        return self.text.startswith(NOT_RUN)

    @property
    def file(self) -> str | None:
        """The file that a Python block shows: the name in its first line, ``# my.py``."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found and self.language == "python" else None

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block that are commands."""
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


def markdown(root: Path = ROOT) -> list[Path]:
    """Every page of the checkout."""
    return sorted([*root.glob("*.md"), *(root / "data").rglob("*.md"), *(root / "docs").rglob("*.md")])


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order and without the indentation of a list."""
    text = page.read_text(encoding="utf-8")
    return [Block(language, textwrap.dedent(body)) for _, language, body in FENCE.findall(text)]


def prose(page: Path) -> str:
    """A page without its code: neither fenced blocks nor code spans."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "", text)


def links(page: Path) -> Iterator[str]:
    """Targets of links and pictures that lead into the project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Names under which places of a page can be linked to: headings, as GitHub makes them, and <a id="...">."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set(re.findall(r'<a id="([\w-]+)"></a>', text))
    for heading in re.findall(r"^#+ +(.+?)\s*$", text, flags=re.M):
        name = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        found.add(name if name not in found else f"{name}-1")
    return found
