"""Rows of the benchmark of speed, and their table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class SpeedRow:
    """One figure in ``unit``, and the anchor that was measured in the same run."""

    group: str
    name: str
    value: float
    unit: str
    anchor: float | None = None  # figure of the anchor
    against: str = ""  # name of the anchor
    note: str = ""

    @property
    def ratio(self) -> float:
        """value / anchor; NaN without an anchor."""
        return self.value / self.anchor if self.anchor else math.nan

    def as_dict(self) -> dict[str, object]:
        """For --json."""
        found: dict[str, object] = {**asdict(self), "ratio": self.ratio}
        return {key: None if isinstance(x, float) and math.isnan(x) else x for key, x in found.items()}


def number_text(value: float) -> str:
    """``value`` with three significant digits; "absent" for NaN, where the note says why."""
    if math.isnan(value):
        return "absent"
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1e4:
        return f"{value / 1e3:.3g} k"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def table_text(rows: Sequence[SpeedRow]) -> str:
    """The rows as a Markdown table."""
    cells = [("what", "figure", "unit", "ratio", "to", "note")]
    for row in rows:
        ratio = "" if math.isnan(row.ratio) else f"{row.ratio:.3g}"
        cells.append((row.name, number_text(row.value), row.unit, ratio, row.against, row.note))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
