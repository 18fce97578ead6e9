"""The figure of a carry-over experiment: what a real engine did beside what the simulator said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from llmsched.eval.figures.style import INK, MUTED, colour_of, sheet
from llmsched.eval.report.tooltips import mark
from llmsched.eval.runs.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 3.6
MARKERS = ("o", "s", "^", "D", "v", "P")
"""By load."""


@dataclass(frozen=True)
class Agreement:
    """A metric of every policy at every load: ``points`` (measured, predicted) by policy and load; ``logarithmic``:
    how the axes run."""

    title: str
    unit: str
    points: Mapping[tuple[str, float], tuple[Interval, Interval]]
    logarithmic: bool = False


@dataclass(frozen=True)
class CarryOver:
    """What the figure shows: ``policies`` and ``loads`` in order, a panel for each of ``metrics``."""

    title: str
    policies: Sequence[str]
    loads: Sequence[float]
    metrics: Sequence[Agreement]


def carry_over_drawings(found: CarryOver) -> dict[str, Callable[[], Figure | None]]:
    """The figure by name, drawn when it is called."""
    return {"carry_over": partial(draw_agreement, found)}


def draw_agreement(found: CarryOver) -> Figure:
    """Measured against predicted, with both 95 % intervals over repeats; on the line they are equal."""
    from matplotlib.lines import Line2D

    figure = sheet(HEIGHT, "Measured in a real engine, and predicted", found.title)
    panels = figure.subplots(1, len(found.metrics), squeeze=False)[0]
    for axes, metric in zip(panels, found.metrics, strict=True):
        _draw_panel(axes, found, metric)
    colours = [
        Line2D([], [], color=colour_of(row), marker="o", linestyle="", label=policy)
        for row, policy in enumerate(found.policies)
    ]
    shapes = [
        Line2D([], [], color=MUTED, marker=MARKERS[place % len(MARKERS)], linestyle="", label=f"load {load:g}")
        for place, load in enumerate(found.loads)
    ]
    figure.legend(handles=[*colours, *shapes], loc="outside lower center", ncols=5, frameon=False)
    return figure


def _draw_panel(axes: Axes, found: CarryOver, metric: Agreement) -> None:
    if metric.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    ends = [interval.mean for pair in metric.points.values() for interval in pair]
    low, high = min(ends), max(ends)
    if metric.logarithmic:
        low, high = low / 1.6, high * 1.6
    else:
        low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8)
    for (policy, load), (real, ours) in metric.points.items():
        look: dict[str, Any] = {"color": colour_of(found.policies.index(policy)), "elinewidth": 0.7, "markersize": 5}
        shape = MARKERS[found.loads.index(load) % len(MARKERS)]
        across, up = _reach(real, metric), _reach(ours, metric)
        axes.errorbar(real.mean, ours.mean, xerr=across, yerr=up, fmt=shape, alpha=0.85, **look)
        values = f"measured {real.mean:.3g}, predicted {ours.mean:.3g} {metric.unit}"
        mark(axes, real.mean, ours.mean, f"{policy}, load {load:g}\n{metric.title}: {values}")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal", adjustable="box")
    axes.set_title(f"{metric.title}, {metric.unit}", fontsize=10)
    axes.set_xlabel("measured")
    axes.set_ylabel("predicted")


def _reach(value: Interval, metric: Agreement) -> list[list[float]] | None:
    """The arms of an interval: on a logarithmic axis they stay above 0, shares between 0 and 100 %."""
    if value.half is None:
        return None
    if metric.unit == "%":
        return [[min(value.half, value.mean)], [min(value.half, max(0.0, 100.0 - value.mean))]]
    return [[min(value.half, 0.9 * value.mean) if metric.logarithmic else value.half], [value.half]]
