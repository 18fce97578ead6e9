"""Charts that experiments share: lines with intervals, and a tornado.  Their look is that of figures.style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsched.eval.figures.style import GRID, INK, MUTED, TARGET, colour_of, dash_of, sheet
from llmsched.eval.report.tooltips import MARKED, mark
from llmsched.eval.runs.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_WIDTH = 95
"""Letters in a row of the legend."""

LEAST = 0.05
"""Least length of a bar of a tornado, in shown units; shorter ones are only counted."""

FEW = 9
"""Up to so many places on a log axis are all labelled."""


@dataclass(frozen=True)
class ChartLine:
    """A line: its name in the legend; ``x`` (N,); ``y`` (N,) with intervals; the ``row`` of its colour; ``guide``: a
    dotted line without points, for comparison."""

    name: str
    x: Sequence[float]
    y: Sequence[Interval]
    row: int
    guide: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes with their lines.

    ``factor`` times y is shown (100 for per cent); ``bounded``: y is a share, so that intervals end at 0 and 100 %;
    ``share``: the same, and the axis runs from 0 to 100 %; ``at_x``, ``at_y``: positions of dashed lines; ``ticks``:
    labels of the places 1, 2, 3, ... on the x axis.
    """

    title: str
    x: str
    y: str
    lines: Sequence[ChartLine]
    log_x: bool = False
    log_y: bool = False
    factor: float = 1.0
    bounded: bool = False
    share: bool = False
    at_x: float | None = None
    at_y: Sequence[float] = ()
    ticks: Sequence[str] = ()


def draw_lines(headline: str, title: str, panels: Sequence[Panel], columns: int = 2, height: float = 3.4) -> Figure:
    """The panels in ``columns``, with one legend below; ``height``: inches of a row."""
    rows = math.ceil(len(panels) / columns)
    figure = sheet(0.5 + height * rows, headline, title)
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    handles: dict[str, Any] = {}
    for axes, panel in zip(grid, panels, strict=False):
        handles |= _panel(axes, panel)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=max(1, min(LEGEND_WIDTH // (5 + max(len(name) for name in handles)), len(handles))),
        frameon=False,
    )
    return figure


def _panel(axes: Axes, panel: Panel) -> dict[str, Any]:
    handles = {}
    for line in panel.lines:
        x = np.asarray(line.x, dtype=np.float64)
        y = panel.factor * np.array([value.mean for value in line.y])
        half = panel.factor * np.array([value.half or 0.0 for value in line.y])
        colour = MUTED if line.guide else colour_of(line.row)
        look: dict[str, Any] = (
            {"linestyle": (0, (2, 2)), "linewidth": 1.3, "zorder": 1}
            if line.guide
            else {"linestyle": dash_of(line.row), "linewidth": 1.8, "marker": "o", "markersize": 4}
        )
        (handles[line.name],) = axes.plot(x, y, color=colour, gid=MARKED, label=line.name, **look)
        if np.any(half > 0):
            low, high = (0.0, 100.0) if panel.share or panel.bounded else (-math.inf, math.inf)  # no share is beyond
            band = np.clip(y - half, low, high), np.clip(y + half, low, high)
            axes.fill_between(x, *band, color=colour, alpha=0.13, linewidth=0)
        for place, value, width in zip(x, y, half, strict=True):
            spread = f" ± {width:.3g}" if width else ""
            mark(axes, place, value, f"{line.name}\n{panel.x}: {place:,.4g}\n{panel.y}: {value:,.4g}{spread}")
    _axes(axes, panel)
    return handles


def _axes(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    if panel.log_x:
        axes.set_xscale("log")
        places = sorted({x for line in panel.lines for x in line.x})
        axes.xaxis.set_major_locator(FixedLocator(places) if len(places) <= FEW else LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if panel.ticks:
        axes.set_xticks(range(1, len(panel.ticks) + 1), panel.ticks)
    if panel.share:
        axes.set_ylim(-2, 102)
    for level in panel.at_y:
        axes.axhline(level, color=TARGET, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    if panel.at_x is not None:
        axes.axvline(panel.at_x, color=TARGET, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_title(panel.title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


@dataclass(frozen=True)
class Bar:
    """A row of a tornado: the factor, its two values in words, and the effect of each."""

    factor: str
    low: str
    high: str
    at_low: Interval
    at_high: Interval

    @property
    def reach(self) -> float:
        """The size of the larger effect."""
        return max((abs(v.mean) for v in (self.at_low, self.at_high) if math.isfinite(v.mean)), default=0.0)


def draw_tornado(
    headline: str, title: str, x: str, panels: Mapping[str, Sequence[Bar]], factor: float = 100.0
) -> Figure:
    """A tornado per panel, bars in the order given, effects times ``factor``; bars without effect are only counted."""
    shown = {name: [bar for bar in bars if bar.reach * factor >= LEAST] for name, bars in panels.items()}
    none = {name: len(bars) - len(shown[name]) for name, bars in panels.items()}
    panels = {f"{name} (+{none[name]} at 0)" if none[name] else name: bars for name, bars in shown.items()}
    most = max(1, *(len(bars) for bars in panels.values()))
    rows = math.ceil(len(panels) / 2)
    figure = sheet(rows * (1.2 + 0.5 * most), headline, title)
    grid = figure.subplots(rows, min(2, len(panels)), squeeze=False, sharex=True).ravel()
    for axes, (name, bars) in zip(grid, panels.items(), strict=False):
        _tornado(axes, name, bars, x, factor)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return figure


def _tornado(axes: Axes, name: str, bars: Sequence[Bar], x: str, factor: float) -> None:
    axes.axvline(0.0, color=INK, linewidth=1)
    for row, bar in enumerate(bars):
        low, high = (bar.at_low, bar.low, colour_of(0), -0.2), (bar.at_high, bar.high, colour_of(1), 0.2)
        for value, word, colour, up in (low, high):
            if not math.isfinite(value.mean):
                continue
            mean, half = factor * value.mean, factor * (value.half or 0.0)
            axes.barh(row + up, mean, height=0.36, color=colour, alpha=0.4, linewidth=0)
            axes.errorbar(mean, row + up, xerr=half, color=colour, capsize=2, linewidth=1.2, fmt="|")
            mark(axes, mean, row + up, f"{name}\n{bar.factor}: {word}\n{mean:+.2f} ± {half:.2f}")
    axes.set_yticks(range(len(bars)), [f"{bar.factor}\n{bar.low} | {bar.high}" for bar in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID)
    axes.set_title(name, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x)
    axes.tick_params(labelbottom=True)
