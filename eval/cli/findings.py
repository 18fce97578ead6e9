"""What an experiment found, and what is printed and written of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmsched.eval.report.markup import latex, markdown
from llmsched.eval.report.tables import Table, csv_text, records, text
from llmsched.eval.report.text import fold
from llmsched.eval.runs.runner import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawings = Mapping[str, Callable[[], "Figure | None"]]
"""Figures by name, each drawn when it is called; None: there is nothing to draw."""


@dataclass(frozen=True)
class Findings:
    """The findings of an experiment.

    ``about`` goes into summary.json beside the tables; ``timeline``: the cells that ``--timeline`` shows;
    ``answer``: sentences that are printed before everything else; ``interrupted``: empty, or after Ctrl-C what had
    finished, for the last line on standard error.  A command whose output has another form overrides the methods.
    """

    heading: str
    tables: Sequence[Table] = ()
    drawings: Drawings = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    timeline: Sequence[Cell] = ()
    interrupted: str = ""
    answer: Sequence[str] = ()

    def remarks(self, notes: Sequence[str]) -> list[str]:
        """The notes below the tables, given the ``notes`` of the whole session."""
        return list(notes)

    def page_remarks(self, notes: Sequence[str]) -> list[str]:
        """The remarks of the report page: those of the terminal."""
        return self.remarks(notes)

    def text(self, notes: Sequence[str]) -> str:
        """What is printed: heading, tables, remarks."""
        parts = [self.heading, *(text(table) for table in self.tables)]
        if self.answer:
            parts.insert(0, "\n".join(fold(sentence) for sentence in self.answer))
        remarks = [fold(note) for note in self.remarks(notes)]
        return "\n\n".join([*parts, "\n".join(remarks)] if remarks else parts)

    def marked_up(self, form: str, notes: Sequence[str]) -> str:
        """What is printed with ``--format`` markdown or latex: heading and remarks as they are, tables in that form."""
        shown = [markdown(table) if form == "markdown" else latex(table) for table in self.tables]
        sign = "% " if form == "latex" else ""
        above = "\n".join([*self.answer, self.heading]).splitlines()
        below = [line for remark in self.remarks(notes) for line in remark.splitlines()]
        return "\n\n".join(part for part in (_lines(above, sign), *shown, _lines(below, sign)) if part)

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> Any:
        """The content of summary.json, which ``--json`` prints."""
        tables = {table.name: records(table) for table in self.tables}
        return {"experiment": experiment, **self.about, "seeds": list(seeds), "tables": tables, "notes": list(notes)}

    def files(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Text of the files of ``--out`` besides summary, manifest and figures, by name; ``rows``: a row per run."""
        tables = {f"{table.name}.csv": csv_text(records(table)) for table in self.tables}
        return {"results.csv": csv_text(rows)} | tables

    def write_more(self, options: argparse.Namespace) -> None:
        """Write the files that options of this command alone ask for: none."""


def _lines(lines: Sequence[str], sign: str) -> str:
    return "\n".join(sign + line for line in lines)
