"""Tables as Markdown, for pages, and as LaTeX (booktabs), for papers: the numbers that the terminal shows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from llmsched.eval.report.tables import Column, Table, Value
from llmsched.eval.runs.intervals import Interval
from llmsched.policies.registry import CLAIRVOYANT

FORMATS = ("text", "markdown", "latex")

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}
"""Characters that LaTeX reads as commands, or lacks."""


def best_rows(table: Table, column: Column) -> set[int]:
    """Places of the best values of a column, equal ones as shown; none where it has no best end or all are equal.

    Clairvoyant policies do not count.
    """
    shown = [column.show(row.get(column.key)) for row in table.rows]
    fair = [place for place, row in enumerate(table.rows) if not str(row.get("policy", "")).startswith(CLAIRVOYANT)]
    means = {place: mean for place in fair if (mean := _mean(table.rows[place].get(column.key))) is not None}
    if column.best == 0 or len({shown[place] for place in means}) < 2:
        return set()
    top = max(means, key=lambda place: column.best * means[place])
    return {place for place in means if shown[place].split(" ±")[0] == shown[top].split(" ±")[0]}


def _mean(value: Value) -> float | None:
    if value is None or isinstance(value, str):
        return None
    mean = value.mean if isinstance(value, Interval) else float(value)
    return mean if math.isfinite(mean) else None


def _cells(table: Table) -> list[list[tuple[str, bool]]]:
    """Rows of shown values, each with whether it is the best of its column."""
    best = [best_rows(table, column) for column in table.columns]
    return [
        [(column.show(row.get(column.key)), place in best[at]) for at, column in enumerate(table.columns)]
        for place, row in enumerate(table.rows)
    ]


def _heads(columns: Sequence[Column]) -> list[str]:
    return [", ".join(part.strip(" ,") for part in (column.title, column.unit) if part) for column in columns]


def markdown(table: Table) -> str:
    """The table with its title above and its note below; the best of a column in bold."""
    rows = [[f"**{_plain(text)}**" if best else _plain(text) for text, best in row] for row in _cells(table)]
    lines = [[_plain(head) for head in _heads(table.columns)], *rows]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    body.insert(1, "|" + "---|" * len(table.columns))
    return "\n\n".join([f"**{_plain(table.title)}**", "\n".join(body), *([_plain(table.note)] if table.note else [])])


def _plain(text: str) -> str:
    """A text that Markdown takes as it is, in a cell of a table."""
    return re.sub(r"([\\`*_|<\[\]])", r"\\\1", " ".join(text.split()))


def latex(table: Table) -> str:
    """A ``table`` environment with the rules of the package booktabs; words to the left, numbers to the right."""
    words = [any(isinstance(row.get(column.key), str) for row in table.rows) for column in table.columns]
    rows = [[rf"\textbf{{{_tex(text)}}}" if best else _tex(text) for text, best in row] for row in _cells(table)]
    lines = [r"\begin{table}", r"  \centering", rf"  \caption{{{_tex(_caption(table))}}}"]
    lines += [rf"  \label{{tab:{table.name}}}", rf"  \begin{{tabular}}{{{''.join('l' if w else 'r' for w in words)}}}"]
    lines += [r"    \toprule", f"    {' & '.join(_tex(head) for head in _heads(table.columns))} \\\\", r"    \midrule"]
    lines += [f"    {' & '.join(row)} \\\\" for row in rows]
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"])


def _caption(table: Table) -> str:
    title = table.title.rstrip(".")
    return f"{title}. {table.note}" if table.note else f"{title}."


def _tex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
