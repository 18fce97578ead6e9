"""Figures of decisions: maps over queue and slack, when policies wait, how they divide servers between bins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.experiments.decisions.grid import ANY, NEVER, WAIT, DecisionMap, MapAxes
from llmsched.eval.figures.style import INK, MUTED, colour_of, sheet
from llmsched.eval.report.tooltips import MARKED, mark
from llmsched.eval.runs.intervals import Interval
from llmsched_env.envs.render.canvas import bin_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = tuple[float, float, float]

DARK, GREY, WHITE = (0.60, 0.10, 0.22), (0.62, 0.62, 0.62), (1.0, 1.0, 1.0)
"""Colours of the overdue queue, of `any`, and of waiting."""

GROUND = "#f4f4f4"
"""Background: states that cannot occur."""

READ = (
    ".  Colour: the bin that is served, number: the size of its batch; pale: the answer depends on the other bins; "
    "line: around the states of the run; grey: cannot occur"
)

FAINTEST = 0.35
"""Strength of the colour of an answer that has just half of the votes."""


@dataclass(frozen=True)
class ChoiceLegend:
    """How choices are drawn: ``names`` and ``colours`` of the K bins (as in the environment's picture), then those of
    WAIT and ANY, which are -2 and -1."""

    names: Sequence[str]
    colours: Sequence[Colour]

    @property
    def bins(self) -> int:
        """K."""
        return len(self.names) - 2


def legend_of(found: Sequence[Sequence[str]]) -> ChoiceLegend:
    """The legend for policies whose bins have the names ``found``: the names of the policy with most bins."""
    names = max(found, key=len)
    lengths = sum(name != "overdue" for name in names)
    ramp = [(red / 255.0, green / 255.0, blue / 255.0) for red, green, blue in bin_colours(lengths).tolist()]
    return ChoiceLegend([*names, "wait", "any"], [*ramp, *[DARK] * (len(names) - lengths), WHITE, GREY])


def draw_maps(title: str, found: Mapping[str, Sequence[DecisionMap]], axes: MapAxes, choices: ChoiceLegend) -> Figure:
    """A row of maps per policy, a column per bin whose queue and slack are set."""
    columns = max(len(row) for row in found.values())
    figure = sheet(1.0 + 2.55 * len(found), "What is served, over the queue and the slack of one bin", title + READ)
    panels = figure.subplots(len(found), columns, squeeze=False, sharex=True, sharey=True)
    for row, (name, own) in enumerate(found.items()):
        for panel, shown in zip(panels[row], own, strict=True):
            _map(panel, shown, axes, choices, 7.0 if columns < 5 else 6.0)
            if row == 0:
                panel.set_title(f"bin {choices.names[shown.bin]}", fontsize=9.5, loc="left", pad=4)
        panels[row][0].set_ylabel(f"{name}\n", color=colour_of(row), fontweight="bold")
    figure.supylabel("slack of the first request if its batch started now, seconds", fontsize=9.5)
    for panel in panels[-1]:
        panel.set_xlabel("requests in that bin" if columns < 5 else "requests in it", fontsize=9)
    used = {
        int(value) for own in found.values() for shown in own for value in np.unique(shown.choice) if value != NEVER
    }
    shown_too = [value for value in (ANY, WAIT) if value in used]
    _legend(figure, choices, [*range(choices.bins), *shown_too], "served: predicted output, tokens")
    return figure


def _map(panel: Axes, shown: DecisionMap, axes: MapAxes, choices: ChoiceLegend, font: float) -> None:
    rows, columns = shown.choice.shape
    panel.set_facecolor(GROUND)
    panel.grid(False)
    for y, x in zip(*(place.tolist() for place in np.nonzero(shown.choice != NEVER)), strict=True):
        choice = int(shown.choice[y, x])
        share = float(shown.share[y, x])
        strength = FAINTEST + (1.0 - FAINTEST) * max(0.0, 2.0 * share - 1.0)
        colour = strength * np.array(choices.colours[choice]) + (1.0 - strength)
        waits = choice == WAIT
        look: dict[str, Any] = {"hatch": "//", "edgecolor": MUTED} if waits else {"edgecolor": "none"}
        panel.fill_between([x - 0.5, x + 0.5], y - 0.5, y + 0.5, facecolor=colour, linewidth=0, **look)
        size = "" if waits else f"{shown.size[y, x]:.0f}"
        panel.text(x, y + 0.02, size, ha="center", va="center", fontsize=font, color=_ink(colour))
        what = f"{choices.names[choice]}{f', batch of {size}' if size else ''} ({100 * share:.0f} % of the answers)"
        mark(panel, x, y, f"{axes.lengths[x]} waiting, slack {axes.slacks[y]:.3g} s\n{what}")
    _outline(panel, shown.visited)
    panel.set_xlim(-0.5, columns - 0.5)
    panel.set_ylim(rows - 0.5, -0.5)
    panel.set_xticks(range(columns), [str(length) for length in axes.lengths], fontsize=8)
    named = [y for y in range(rows) if abs(round(axes.slacks[y] / axes.step)) % 2 == 0]
    panel.set_yticks(named, [f"{axes.slacks[y]:.4g}" for y in named], fontsize=8)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _outline(panel: Axes, met: NDArray[np.bool_]) -> None:
    """A line around the cells of ``met``."""
    padded = np.pad(met, 1)
    look: dict[str, Any] = {"color": INK, "linewidth": 1.3, "solid_capstyle": "projecting"}
    for y, x in zip(*np.nonzero(padded[:, 1:] != padded[:, :-1]), strict=True):
        panel.plot([x - 0.5] * 2, [y - 1.5, y - 0.5], **look)
    for y, x in zip(*np.nonzero(padded[1:] != padded[:-1]), strict=True):
        panel.plot([x - 1.5, x - 0.5], [y - 0.5] * 2, **look)


def _ink(colour: NDArray[np.float64]) -> str:
    return "white" if float(np.dot(colour, (0.30, 0.59, 0.11))) < 0.5 else INK


def _legend(figure: Figure, choices: ChoiceLegend, used: Sequence[int], title: str) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=choices.colours[k], edgecolor=MUTED, linewidth=0.6, hatch="//" * (k == WAIT)) for k in used
    ]
    names = [choices.names[k] for k in used]
    figure.legend(
        patches, names, loc="outside lower center", ncols=min(len(used), 6), frameon=False, title=title, fontsize=9
    ).get_title().set_color(MUTED)


def draw_waits(
    title: str, loads: Sequence[float], groups: Sequence[str], shares: Mapping[str, NDArray[np.float64]]
) -> Figure | None:
    """Share of decisions that wait, (groups of free servers, loads) per policy; None where no policy ever waits."""
    if not any(np.nansum(share) > 0 for share in shares.values()):
        return None
    figure = sheet(1.5 + 0.34 * len(groups), "When it waits: share of decisions, %", title)
    panels = figure.subplots(1, len(shares), squeeze=False, sharey=True)[0]
    for row, (panel, (name, share)) in enumerate(zip(panels, shares.items(), strict=True)):
        panel.set_facecolor(GROUND)
        panel.grid(False)
        panel.pcolormesh(np.ma.masked_invalid(100 * share), cmap="Blues", vmin=0, vmax=100, edgecolors="white")
        for (y, x), value in np.ndenumerate(share):
            if np.isfinite(value):
                colour = "white" if value > 0.55 else INK
                text = f"{100 * value:.0f}"
                panel.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8.5, color=colour)
                mark(panel, x + 0.5, y + 0.5, f"{name}\nload {loads[x]:g}, {groups[y]} free: {100 * value:.1f} % waits")
        panel.set_xticks(np.arange(len(loads)) + 0.5, [f"{load:g}" for load in loads])
        panel.set_yticks(np.arange(len(groups)) + 0.5, groups)
        panel.tick_params(length=0)
        panel.set_title(name, fontsize=10, loc="left", color=colour_of(row), fontweight="bold")
        for spine in panel.spines.values():
            spine.set_visible(False)
        panel.set_xlabel("load, multiples of that rate")
    panels[0].set_ylabel("free servers")
    return figure


@dataclass(frozen=True)
class BinShares:
    """One policy at every load, by bin (loads, bins): ``time``, ``batch`` and ``missed`` as in recording.Sharing."""

    time: Sequence[Sequence[Interval]]
    batch: Sequence[Sequence[Interval]]
    missed: Sequence[Sequence[Interval]]


def draw_sharing(title: str, loads: Sequence[float], found: Mapping[str, BinShares], choices: ChoiceLegend) -> Figure:
    """Server time by bin (stacked), mean batch and misses by bin over the load, a column per policy."""
    figure = sheet(8.1, "How servers are shared between bins", title)
    grid = figure.subplots(3, len(found), squeeze=False, sharex=True, sharey="row")
    for column, (name, own) in enumerate(found.items()):
        _stack(grid[0, column], loads, own.time, choices, name)
        _bin_lines(grid[1, column], loads, own.batch, choices, 1.0, "requests")
        _bin_lines(grid[2, column], loads, own.missed, choices, 100.0, "% missed")
        grid[0, column].set_title(name, fontsize=10.5, loc="left", color=colour_of(column), fontweight="bold")
        grid[2, column].set_xticks(range(len(loads)), [f"{load:g}" for load in loads])
        grid[2, column].set_xlabel("load, multiples of that rate")
    grid[0, 0].set_ylabel("share of all server time, %")
    grid[1, 0].set_ylabel("mean batch, requests")
    grid[2, 0].set_ylabel("missed, % of the bin's requests")
    grid[0, 0].set_ylim(0, 100)
    grid[1, 0].set_ylim(0, _top([own.batch for own in found.values()]))
    grid[2, 0].set_ylim(0, 100 * _top([own.missed for own in found.values()]))
    _legend(figure, choices, range(choices.bins), "bin: predicted output, tokens")
    return figure


def _top(found: Sequence[Sequence[Sequence[Interval]]]) -> float:
    """The upper limit of an axis for the means of these values."""
    return 1.1 * max((v.mean for own in found for row in own for v in row if math.isfinite(v.mean)), default=1.0) or 1.0


def _stack(
    panel: Axes, loads: Sequence[float], time: Sequence[Sequence[Interval]], choices: ChoiceLegend, name: str
) -> None:
    panel.grid(axis="x", visible=False)
    below = np.zeros(len(loads))
    for k in range(choices.bins):
        share = np.array([100 * row[k].mean for row in time])
        panel.bar(range(len(loads)), share, 0.72, below, color=choices.colours[k], linewidth=0)
        for x, (value, low) in enumerate(zip(share, below, strict=True)):
            if value >= 5:
                ink = _ink(np.array(choices.colours[k]))
                panel.text(x, low + value / 2, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
            mark(panel, x, low + value / 2, f"{name}\n{choices.names[k]}, load {loads[x]:g}: {value:.1f} %")
        below = below + share


def _bin_lines(
    panel: Axes,
    loads: Sequence[float],
    values: Sequence[Sequence[Interval]],
    choices: ChoiceLegend,
    factor: float,
    unit: str,
) -> None:
    places = np.arange(len(loads))
    for k in range(min(choices.bins, len(values[0]))):
        mean = factor * np.array([row[k].mean for row in values])
        if not np.isfinite(mean).any():
            continue
        line: dict[str, Any] = {"color": choices.colours[k], "markeredgecolor": MUTED, "markeredgewidth": 0.5}
        panel.plot(places, mean, "o-", linewidth=2, markersize=5, label=choices.names[k], gid=MARKED, **line)
        for x, value in enumerate(mean.tolist()):
            if math.isfinite(value):
                mark(panel, x, value, f"{choices.names[k]}, load {loads[x]:g}: {value:.3g} {unit}")
