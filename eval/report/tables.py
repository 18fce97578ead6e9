"""Tables: one description, written as text, CSV, JSON and (llmsched.eval.report.page) HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmsched.eval.report.text import align, column_widths, fold, rule
from llmsched.eval.runs.intervals import Interval

Value = Interval | float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    ``key`` in the rows and in files; ``title`` and ``unit``, the two lines of its head.  Numbers are shown times
    ``factor``, with ``digits`` decimals, ``signed`` or not; files hold them as they are.  ``best`` says which end is
    best: 1 the highest, -1 the lowest, 0 neither.  ``none`` is shown for None, ``zero``, where it is given, for 0.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 1
    factor: float = 1.0
    signed: bool = False
    best: int = 0
    none: str = "-"
    zero: str = ""

    def show(self, value: Value) -> str:
        """``value`` as it is printed; ``-`` for a value that does not exist."""
        if value is None or isinstance(value, str):
            return value or self.none
        mean, half = (value.mean, value.half) if isinstance(value, Interval) else (float(value), None)
        if not math.isfinite(mean):
            return "-" if math.isnan(mean) else "inf"
        if mean == 0 and self.zero:
            return self.zero
        sign = "+" if self.signed else ""
        scaled = round(mean * self.factor, self.digits) + 0.0  # no -0.0
        text = f"{scaled:{sign},.{self.digits}f}"
        return text if half is None else f"{text} ± {half * self.factor:,.{self.digits}f}"


@dataclass(frozen=True)
class Table:
    """Rows of values by column key, under a ``title``; ``name``: of its file; ``note``: the text below."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Value]]
    note: str = ""


def text(table: Table) -> str:
    """The table for a terminal: words to the left of their columns, numbers to the right."""
    cells = [[c.title for c in table.columns], [c.unit for c in table.columns]]
    cells += [[c.show(row.get(c.key)) for c in table.columns] for row in table.rows]
    widths, left = column_widths(cells), [_holds_words(table, column) for column in table.columns]
    lines = [align(row, widths, left) for row in cells if any(row)]
    head = 2 if any(cells[1]) else 1
    note = [fold(table.note)] if table.note else []
    return "\n".join([fold(table.title), *lines[:head], rule(widths), *lines[head:], *note])


def _holds_words(table: Table, column: Column) -> bool:
    return any(isinstance(row.get(column.key), str) for row in table.rows)


def records(table: Table) -> list[dict[str, Any]]:
    """The rows as plain numbers and words: an interval becomes its mean and, as ``KEY_ci95``, its half width."""
    found = []
    for row in table.rows:
        record: dict[str, Any] = {}
        for column in table.columns:
            value = row.get(column.key)
            if isinstance(value, Interval):
                record |= {column.key: value.mean, f"{column.key}_ci95": value.half}
            else:
                record[column.key] = value
        found.append(record)
    return found


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, columns in the order in which they first appear; an undefined value is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if _undefined(value) else value for key, value in row.items()})
    return out.getvalue()


def _undefined(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
