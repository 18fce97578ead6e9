"""Tooltips of figures: points with a text, which the report page lays over the picture.

Every point of a labelled line has a tooltip; other shapes get theirs by ``mark``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = "tooltips_of_llmsched"
"""The attribute of a figure that holds its marks: they live as long as the figure, and go with it."""

MARKED = "marked"
"""The gid of a labelled line whose points were marked one by one."""

MOST = 120
"""Most points of a line with tooltips; of a longer one every second, third, ..."""


def mark(axes: Axes, x: float, y: float, text: str) -> None:
    """Add the tooltip ``text`` at the point (x, y) of ``axes``, in data units."""
    vars(axes.figure).setdefault(_MARKS, []).append((axes, float(x), float(y), text))


def points(figure: Figure) -> list[dict[str, Any]]:
    """All tooltips: ``x``, ``y`` as shares of the width and (from the top) of the height, and ``text``.

    The figure must have been drawn, so that its layout is known.
    """
    width, height = figure.get_size_inches() * figure.dpi
    found = []
    for axes, x, y, text in [*vars(figure).get(_MARKS, []), *_of_lines(figure)]:
        right, up = axes.transData.transform((x, y))
        box = axes.bbox.padded(1.0)
        if box.x0 <= right <= box.x1 and box.y0 <= up <= box.y1:  # not cut off by the limits of the axes
            found.append({"x": round(right / width, 5), "y": round(1 - up / height, 5), "text": text})
    return found


def _of_lines(figure: Figure) -> list[tuple[Any, float, float, str]]:
    found = []
    for axes in figure.axes:
        x_name, y_name = (re.split(r"\n| \(", label)[0] for label in (axes.get_xlabel(), axes.get_ylabel()))
        for line in axes.lines:
            label = str(line.get_label())
            if label.startswith("_") or line.get_gid() == MARKED:
                continue
            x_data, y_data = (np.atleast_1d(values) for values in (line.get_xdata(), line.get_ydata()))
            step = max(1, -(-len(x_data) // MOST))  # a line may have no points: nothing completed
            for x, y in zip(x_data[::step], y_data[::step], strict=True):
                found.append((axes, float(x), float(y), f"{label}\n{x_name}: {x:,.4g}\n{y_name}: {y:,.4g}"))
    return found
