"""What mkdocs needs to make a site of pages that are written for a checkout (mkdocs.yml: hooks).

Pages outside of docs/ become pages of the site, the notebooks are executed and become pages, links that lead out of
docs/ lead to them, and a list directly below a paragraph, which Python's Markdown does not see, gets an empty line.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PROJECT = {
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "data/README.md": "project/data.md",
}
"""Pages of the checkout outside of docs/: their place in the site."""

NOTEBOOKS = {"examples/compare.ipynb": "notebooks/compare", "examples/agent.ipynb": "notebooks/agent"}
"""Notebooks: the place of their page and their pictures."""

LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2\s*?$", flags=re.S | re.M)
ITEM = re.compile(r"^(?:[*+-]|\d+\.) ")
ORIGIN = "origin"
"""The line that says where a page comes from, which its links are relative to."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere, and the notebooks with what they print and draw."""
    for source, place in PROJECT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=f"<!-- {ORIGIN}: {source} -->\n{text}"))
    for source, place in NOTEBOOKS.items():
        text, pictures = executed(ROOT / source)
        for name, content in pictures.items():
            files.append(File.generated(config, f"{place}_files/{name}", content=content))
        files.append(
            File.generated(config, f"{place}.md", content=text.replace("PICTURES", f"{Path(place).name}_files"))
        )
    return files


def executed(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, after it was executed in an empty folder; and its pictures by name."""
    import tempfile

    import nbformat
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    book = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(book, timeout=600, resources={"metadata": {"path": folder}}).execute()
    text, resources = MarkdownExporter().from_notebook_node(book)
    pictures = dict(resources.get("outputs", {}))
    for name in pictures:
        text = text.replace(f"({name})", f"(PICTURES/{name})")
    note = f"\n*This page is the notebook `{notebook.relative_to(ROOT)}`, executed when the site was made.*\n"
    head, _, rest = text.lstrip().partition("\n")
    return f"{head}\n{note}\n{rest}", pictures


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with links that hold in the site, and lists that are seen."""
    origin = re.match(rf"<!-- {ORIGIN}: (\S+) -->\n", markdown)
    source = origin[1] if origin else f"docs/{page.file.src_uri}"
    text = markdown[origin.end() :] if origin else markdown
    return outside_of_code(text, lambda part: spaced(relinked(part, source, page.file.src_uri)))


def outside_of_code(text: str, change: Any) -> str:
    """``text`` with ``change`` made to what is in no fenced block."""
    found, last = [], 0
    for fence in FENCE.finditer(text):
        found += [change(text[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*found, change(text[last:])])


def relinked(text: str, source: str, place: str) -> str:
    """Links of the file ``source`` of the checkout as links of the page ``place``; of others only the words stay."""

    def changed(match: re.Match[str]) -> str:
        """One link."""
        target, hash_, anchor = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        home = PROJECT.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        if home and not home.startswith("tools/"):
            return f"{match[1]}{os.path.relpath(home, posixpath.dirname(place) or '.')}{hash_}{anchor}{match[3]}"
        return f"{match[1]}{NOWHERE}{match[3]}"

    text = LINK.sub(changed, text)
    return re.sub(rf"\[([^\]]*)\]\({NOWHERE}\)", r"\1", text)


NOWHERE = "in-the-checkout"
"""The target of a link to a file that is no page: only its words stay."""


def spaced(text: str) -> str:
    """An empty line before a list that follows a paragraph; lists inside of lists are indented by four."""
    lines: list[str] = []
    inside = False  # whether the last line belongs to a list
    for line in text.split("\n"):
        item = ITEM.match(line)
        if item and lines and lines[-1].strip() and not inside:
            lines.append("")
        inside = bool(item) or (inside and (not line.strip() or line.startswith(" ")))
        nested = inside and not item and re.match(r"( {2,3})(?=\S)", line)
        lines.append(f"{'    '}{line.lstrip()}" if nested else line)
    return "\n".join(lines)
