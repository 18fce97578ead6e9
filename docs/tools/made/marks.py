"""Marks in a page: where a part that a command makes begins and ends, and what makes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

MARK = re.compile(r"^(?P<head><!-- made\n(?P<about>.*?)-->\n)(?P<body>.*?)(?P<end>^<!-- end of made -->)", re.S | re.M)
FORMS = ("output", "table", "policies", "variants", "figure")


class MarkError(ValueError):
    """A mark that cannot be read: page, line, reason."""


@dataclass(frozen=True)
class Mark:
    """A part of a page that a command makes.

    ``command``: the command line, beginning with ``python``.  ``form`` is one of

    * ``output``: what is printed, in a fence, up to the paragraph that begins with ``until``;
    * ``table``: the table with the title that begins with ``title``, of any command; ``columns``, ``keep`` (a pattern
      of first cells) and ``where`` (patterns of other cells by their column) say which of it;
    * ``policies``: a row per policy of compare's summary;
    * ``variants``: a row for each of ``rows`` (a label and the options it adds), a column per policy;
    * ``figure``: the file of ``figures/`` named ``title``, which the picture below the mark shows.

    Elsewhere ``columns`` are keys of the summary.  ``names``: other names of policies; ``chosen``: show what
    was chosen for ``auto``; ``slow``: minutes it takes, where it takes minutes; ``needs``: a trace file that the
    project lacks.
    """

    line: int
    command: str
    form: str = "output"
    title: str = ""
    until: str = ""
    rows: dict[str, str] | None = None
    columns: tuple[str, ...] = ()
    keep: str = ""
    where: dict[str, str] | None = None
    names: dict[str, str] | None = None
    chosen: bool = False
    slow: float = 0.0
    needs: str = ""
    body: str = ""


def mark_from(page: Path, line: int, about: str, body: str) -> Mark:
    """The mark that the YAML text ``about`` states; ``MarkError`` where it states none."""
    known = {field.name for field in fields(Mark)} - {"line", "body"}
    where = f"{page.name}:{line}"
    try:
        found: Any = yaml.safe_load(about)
    except yaml.YAMLError as error:
        raise MarkError(f"{where}: the mark is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict) or "command" not in found:
        raise MarkError(f"{where}: the mark has no command")
    if unknown := sorted(set(found) - known):
        raise MarkError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if found.get("form", "output") not in FORMS:
        raise MarkError(f"{where}: unknown form {found['form']}; known are {', '.join(FORMS)}")
    if "columns" in found:
        found["columns"] = tuple(found["columns"])
    if "where" in found:
        found["where"] = {str(column): str(pattern) for column, pattern in found["where"].items()}
    if "rows" in found:
        found["rows"] = {str(label): str(options or "") for label, options in found["rows"].items()}
    return Mark(line=line, body=body, **(found | {"command": " ".join(str(found["command"]).split())}))


def read_marks(page: Path) -> list[Mark]:
    """The marks of a page in order; ``MarkError`` for one that cannot be read or does not end."""
    text = page.read_text(encoding="utf-8")
    found = [
        mark_from(page, text.count("\n", 0, hit.start()) + 1, hit["about"], hit["body"]) for hit in MARK.finditer(text)
    ]
    if not len(found) == text.count("<!-- made\n") == text.count("<!-- end of made -->"):
        raise MarkError(f"{page.name}: every '<!-- made' needs an '<!-- end of made -->' of its own")
    return found


def replace_bodies(page: Path, body: Callable[[Mark], str]) -> str:
    """The text of the page with the part below every mark replaced by ``body(mark)``."""
    text = page.read_text(encoding="utf-8")
    marks = iter(read_marks(page))
    return MARK.sub(lambda hit: hit["head"] + body(next(marks)) + hit["end"], text)
