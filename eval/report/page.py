"""The report: one HTML page with sortable tables, figures with tooltips, notes, and how to repeat the command.

The page needs no network and no other file.  Figures are matplotlib's, as SVG; their tooltips are points laid over them
(llmsched.eval.report.tooltips).  Without JavaScript the page has no tooltips and does not sort.
"""

from __future__ import annotations

import html
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from llmsched.eval.figures.style import STYLE, SUBTITLE
from llmsched.eval.report import tooltips
from llmsched.eval.report.tables import Column, Table, Value
from llmsched.eval.runs.intervals import Interval
from llmsched_env.files.showing import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = Path(__file__).parent / "page_parts"


def page(
    heading: str,
    tables: Sequence[Table],
    figures: Mapping[str, Figure],
    notes: Sequence[str],
    about: Mapping[str, Any],
    answer: Sequence[str] = (),
    captions: Mapping[str, str] | None = None,
) -> str:
    """The page: ``heading`` (its first line is the title), tables, figures by name, notes, and ``about``: the manifest,
    which says how to repeat the command; ``answer``: sentences that stand first; ``captions``: a sentence per
    figure."""
    title, _, rest = heading.partition("\n")
    parts = {
        "title": html.escape(title),
        "scenario": html.escape(rest),
        "answer": "".join(f"<p class=answer>{html.escape(sentence)}</p>" for sentence in answer),
        "tables": "\n".join(_table(table) for table in tables),
        "figures": "\n".join(_figure(name, figure, (captions or {}).get(name, "")) for name, figure in figures.items()),
        "notes": _notes(notes),
        "command": html.escape(shlex.join(about["command"])),
        "about": _about(about),
        "style": (PARTS / "page.css").read_text(encoding="utf-8"),
        "script": (PARTS / "page.js").read_text(encoding="utf-8"),
    }
    return visible(Template((PARTS / "page.html").read_text(encoding="utf-8")).substitute(parts))


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(c.title)}'
        f"{f' <small>{html.escape(c.unit)}</small>' if c.unit else ''}</button></th>"
        for c in table.columns
    )
    body = "\n".join(f"<tr>{''.join(_cell(c, row.get(c.key)) for c in table.columns)}</tr>" for row in table.rows)
    note = f"<p class=note>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f'<section><h2>{html.escape(table.title)}</h2><div class=wide><table id="{html.escape(table.name)}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>{note}</section>"
    )


def _cell(column: Column, value: Value) -> str:
    shown = html.escape(column.show(value))
    if isinstance(value, str):
        return f"<td class=word>{shown}</td>"
    number = value.mean if isinstance(value, Interval) else value
    return f'<td data-value="{"" if number is None else repr(float(number))}">{shown}</td>'


def _figure(name: str, figure: Figure, caption: str) -> str:
    """The figure as SVG without its subtitle, its caption, and the points of its tooltips as they were added."""
    import matplotlib

    out = io.StringIO()
    style = {**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}
    above = [text for text in figure.texts if text.get_gid() == SUBTITLE]  # the scenario stands above the tables
    for text in above:
        text.set_visible(False)
    with matplotlib.rc_context(style):
        figure.savefig(out, format="svg", facecolor="white", metadata={"Date": None})
    for text in above:
        text.set_visible(True)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    points = json.dumps(tooltips.points(figure)).replace("<", "\\u003c")
    return (
        f'<figure id="figure-{html.escape(name)}">{svg}<div class=ring hidden></div><div class=tip hidden></div>'
        f"<script type=application/json>{points}</script>"
        f"{f'<figcaption>{html.escape(caption)}</figcaption>' if caption else ''}</figure>"
    )


def _notes(notes: Sequence[str]) -> str:
    items = "\n".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<section><h2>Remarks</h2><ul class=notes>\n{items}\n</ul></section>" if notes else ""


def _about(about: Mapping[str, Any]) -> str:
    git, machine = about.get("git") or {}, about["machine"]
    commit = git.get("commit", "unknown") + (" with changes" if git.get("modified") else "")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    rows = {
        "begun": f"{about['began']}, {about['seconds']:g} s",
        "commit": commit,
        "versions": versions,
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['system']} {machine['architecture']}",
    }
    return "".join(f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in rows.items())
