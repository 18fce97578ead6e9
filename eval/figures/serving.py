"""Figures of runs on real engines by scheduler and number of requests: bars, lines, boxes, percentiles, histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.figures.style import INK, MUTED, colour_of, sheet
from llmsched.eval.report.tooltips import mark
from llmsched.eval.runs.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 3.6
"""Inches of a chart."""

HISTOGRAM_BINS = 24
SHOWN = {
    "ttft": ("mean_ttft_s", "Time to first token", "mean TTFT, s"),
    "throughput": ("throughput", "Throughput", "completed requests/s"),
    "latency": ("mean_e2e_s", "Latency", "mean end-to-end latency, s"),
}
"""By the name of a figure: its metric (measures.measures), its headline, the label of its axis."""

PERCENTILES = ("p50", "p95", "p99")


@dataclass(frozen=True)
class ServedRuns:
    """What the figures show: ``title``; the policies' ``labels``; the numbers of requests in a run, ``counts``;
    metrics by (label, count) over repeats; latencies in s of the completed requests of all repeats together."""

    title: str
    labels: Sequence[str]
    counts: Sequence[int]
    metrics: Mapping[tuple[str, int], Mapping[str, Interval]]
    latencies: Mapping[tuple[str, int], NDArray[np.float64]]

    def of(self, label: str) -> list[int]:
        """The counts that a policy has runs of."""
        return [count for count in self.counts if (label, count) in self.metrics]


def served_drawings(runs: ServedRuns) -> dict[str, Callable[[], Figure | None]]:
    """Every figure by name, drawn when it is called; None: there is one number of requests alone, and no line."""
    bars = {f"{name}_bars": partial(draw_bars, runs, name) for name in SHOWN}
    lines = {f"{name}_lines": partial(draw_over_counts, runs, name) for name in SHOWN}
    return {
        **bars,
        **lines,
        "latency_boxes": partial(draw_boxes, runs),
        "latency_percentiles": partial(draw_percentiles, runs),
        "latency_histograms": partial(draw_histograms, runs),
    }


def _groups(runs: ServedRuns, axes: Axes) -> float:
    """Label a group of places for each number of requests; the width of a place in it."""
    axes.set_xticks(range(len(runs.counts)), [f"{count:,}" for count in runs.counts])
    axes.set_xlabel("requests in a run")
    axes.grid(axis="x", visible=False)
    return 0.8 / len(runs.labels)


def _place(runs: ServedRuns, row: int, count: int, width: float) -> float:
    return runs.counts.index(count) + (row - (len(runs.labels) - 1) / 2) * width


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)


def _bar(axes: Axes, at: float, value: Interval, width: float, text: str, **look: Any) -> None:
    """A bar with its interval, which no value below 0 belongs to; nothing where there is no value."""
    axes.bar(at, value.mean if np.isfinite(value.mean) else 0.0, width, **look)
    if not np.isfinite(value.mean):
        return
    if value.half is not None:
        reach = [[min(value.half, value.mean)], [value.half]]
        axes.errorbar(at, value.mean, yerr=reach, color=INK, capsize=2, linewidth=1)
    spread = "" if value.half is None else f" ± {value.half:.3g}"
    mark(axes, at, value.mean, f"{text}: {value.mean:.3g}{spread}")


def draw_bars(runs: ServedRuns, name: str) -> Figure:
    """A bar for each policy and number of requests, with the 95 % interval over repeats."""
    key, headline, label = SHOWN[name]
    figure = sheet(HEIGHT, headline, runs.title)
    axes = figure.add_subplot()
    width = _groups(runs, axes)
    for row, policy in enumerate(runs.labels):
        for place, count in enumerate(runs.of(policy)):
            look: dict[str, Any] = {"color": colour_of(row), "label": policy if place == 0 else None}
            text = f"{policy}, {count} requests\n{label}"
            _bar(axes, _place(runs, row, count, width), runs.metrics[policy, count][key], 0.9 * width, text, **look)
    axes.set_ylabel(label)
    _legend(figure, axes)
    return figure


def draw_over_counts(runs: ServedRuns, name: str) -> Figure | None:
    """A line for each policy over the number of requests in a run, with the 95 % interval over repeats."""
    if len(runs.counts) < 2:
        return None
    key, headline, label = SHOWN[name]
    lines = [
        ChartLine(policy, runs.of(policy), [runs.metrics[policy, count][key] for count in runs.of(policy)], row)
        for row, policy in enumerate(runs.labels)
    ]
    return draw_lines(headline, runs.title, [Panel("", "requests in a run", label, lines)], columns=1, height=HEIGHT)


def draw_boxes(runs: ServedRuns) -> Figure:
    """The end-to-end latencies of completed requests: median, quartiles, whiskers to 1.5 times their distance, and
    what lies beyond."""
    figure = sheet(HEIGHT, "Latency by request", runs.title)
    axes = figure.add_subplot()
    width = 0.8 / len(runs.labels)
    for row, policy in enumerate(runs.labels):
        own = [count for count in runs.of(policy) if len(runs.latencies[policy, count])]
        if not own:
            continue
        drawn = axes.boxplot(
            [runs.latencies[policy, count] for count in own],
            positions=[_place(runs, row, count, width) for count in own],
            widths=0.8 * width,
            patch_artist=True,
            manage_ticks=False,
            medianprops={"color": INK},
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour_of(row)},
        )
        for box in drawn["boxes"]:
            box.set_facecolor(colour_of(row))
            box.set_alpha(0.6)
        drawn["boxes"][0].set_label(policy)
    _groups(runs, axes)
    axes.set_ylabel("end-to-end latency, s")
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def draw_percentiles(runs: ServedRuns) -> Figure:
    """Median, 95th and 99th percentile of the end-to-end latency, means over repeats with the 95 % interval."""
    figure = sheet(0.6 + 2.6 * len(PERCENTILES), "Percentiles of latency", runs.title)
    panels = figure.subplots(len(PERCENTILES), 1, sharex=True)
    for axes, percentile in zip(panels, PERCENTILES, strict=True):
        width = _groups(runs, axes)
        for row, policy in enumerate(runs.labels):
            for place, count in enumerate(runs.of(policy)):
                value = runs.metrics[policy, count][f"{percentile}_e2e_s"]
                look: dict[str, Any] = {"color": colour_of(row), "label": policy if place == 0 else None}
                text = f"{policy}, {count} requests\n{percentile}, s"
                _bar(axes, _place(runs, row, count, width), value, 0.9 * width, text, **look)
        axes.set_ylabel(f"{percentile}, s")
        if axes is not panels[-1]:
            axes.set_xlabel("")
    _legend(figure, panels[0])
    return figure


def draw_histograms(runs: ServedRuns) -> Figure:
    """How many requests took how long, under each policy, in the runs with the most requests; the dashed line is the
    mean."""
    count = max(runs.counts)
    kept = [(row, label) for row, label in enumerate(runs.labels) if len(runs.latencies.get((label, count), ()))]
    figure = sheet(0.6 + 1.5 * max(1, len(kept)), f"Latency of runs of {count:,} requests", runs.title)
    if not kept:
        return figure
    most = max(runs.latencies[label, count].max() for _, label in kept)
    edges = np.linspace(0.0, most, HISTOGRAM_BINS + 1)
    panels = figure.subplots(len(kept), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (row, label) in zip(panels, kept, strict=True):
        values = runs.latencies[label, count]
        axes.hist(values, edges, color=colour_of(row), alpha=0.75)
        axes.axvline(values.mean(), color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_title(label, loc="left", fontsize=9.5, color=colour_of(row))
        axes.set_ylabel("requests")
    panels[-1].set_xlabel("end-to-end latency, s")
    return figure
