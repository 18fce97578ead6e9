"""Plain text for the terminal: lines of at most WIDTH, and rows of cells in columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 120


def fold(text: str) -> str:
    """``text`` in lines of at most WIDTH, continuation lines indented."""
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))


def column_widths(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[int]:
    """The width of every column: its longest cell, and at least ``least``."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [max(pair) for pair in zip(widths, least or widths, strict=True)]


def align(row: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    """The cells of a row in columns of ``widths``, two spaces apart: to the ``left`` of its column, or to the right."""
    cells = zip(row, widths, left, strict=True)
    return "  ".join(f"{cell:<{width}}" if words else f"{cell:>{width}}" for cell, width, words in cells).rstrip()


def rule(widths: Sequence[int]) -> str:
    """A line of dashes below the heads of columns of ``widths``."""
    return "-" * (sum(widths) + 2 * (len(widths) - 1))
