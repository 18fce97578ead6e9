"""Figures of a comparison of policies, one function each, one PNG each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsched.eval.figures.style import INK, MUTED, TARGET, colour_of, dash_of, sheet
from llmsched.eval.report.tooltips import mark
from llmsched.eval.runs.outcome import TIMELINE_POINTS, Outcome
from llmsched_env.simulation.metrics import log_bin_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTH = 9
"""Samples of a timeline that are averaged into one point of its line."""


@dataclass(frozen=True)
class ComparisonData:
    """What the figures show: the scenario in one line; ``summaries``, one per policy (aggregate.policy_summary);
    ``runs``, its outcomes by policy; the E2E, TTFT and TPOT targets in seconds (inf: none); the names of
    the bins."""

    title: str
    summaries: Sequence[Mapping[str, Any]]
    runs: Mapping[str, Sequence[Outcome]]
    e2e_s: float
    ttft_s: float
    tpot_s: float
    bins: Sequence[str]

    @property
    def names(self) -> list[str]:
        """Policies in order."""
        return [summary["policy"] for summary in self.summaries]


def comparison_drawings(data: ComparisonData) -> dict[str, Callable[[], Figure | None]]:
    """Every figure of a comparison by name, drawn when it is called; None: the runs have no data for it."""
    return {
        "slo_attainment": partial(draw_slo_attainment, data),
        "latency": partial(draw_latency_percentiles, data),
        "latency_cdf": partial(draw_latency_cdf, data),
        "bins": partial(draw_misses_per_bin, data),
        "timeline": partial(draw_timeline, data),
    }


def draw_slo_attainment(data: ComparisonData) -> Figure:
    """Share of requests within their SLO, per policy: mean, interval, and every seed as a dot."""
    names = data.names
    figure = _figure(1.6 + 0.42 * len(names), data, "Requests that met their SLO")
    axes = figure.add_subplot()
    for row, summary in enumerate(data.summaries):
        colour = colour_of(row)
        share, half = 100 * summary["slo_attainment"], summary["ci95"]["slo_attainment"]
        axes.barh(row, share, height=0.62, color=colour, alpha=0.28, linewidth=0)
        seeds = [100 * run.summary["slo_attainment"] for run in data.runs[summary["policy"]]]
        axes.plot(seeds, [row] * len(seeds), "o", color=colour, markersize=4, alpha=0.55, markeredgewidth=0)
        error = "" if half is None else f" ± {100 * half:.1f}"
        if half is not None:
            axes.errorbar(share, row, xerr=100 * half, color=colour, capsize=4, linewidth=2, fmt="|", markersize=14)
        axes.annotate(f"{share:.1f}{error} %", (101.5, row), va="center", color=colour, annotation_clip=False)
        mark(axes, share, row, f"{names[row]}\n{share:.2f}{error} % of all arrivals met their SLO")
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of all arrivals, % (rejected, dropped and unfinished count as misses)")
    _rows(axes, names)
    return figure


def draw_latency_percentiles(data: ComparisonData) -> Figure:
    """Median, 95th and 99th percentile of TTFT, TPOT and E2E latency, per policy, each on a log axis of its own."""
    figure = _figure(1.9 + 0.42 * len(data.names), data, "Latency of completed requests")
    panels = figure.subplots(1, 3, sharey=True)
    targets = (data.ttft_s, data.tpot_s, data.e2e_s)
    names = (("ttft", "time to first token"), ("tpot", "time per output token"), ("e2el", "end to end"))
    for axes, (key, label), target in zip(panels, names, targets, strict=True):
        for row, summary in enumerate(data.summaries):
            values = [summary[f"{statistic}_{key}_ms"] / 1000 for statistic in ("median", "p95", "p99")]
            if not np.all(np.isfinite(values)):
                continue
            axes.plot(values, [row] * 3, "-", color=colour_of(row), alpha=0.35, linewidth=5, solid_capstyle="round")
            for value, marker, share in zip(values, "oDs", ("median", "95th", "99th"), strict=True):
                axes.plot(value, row, marker, color=colour_of(row), markersize=6)
                mark(axes, value, row, f"{data.names[row]}\n{label}, {share}: {_seconds(value)}")
            for value, offset, align in ((values[0], -7, "right"), (values[2], 7, "left")):
                axes.annotate(
                    _seconds(value),
                    (value, row),
                    xytext=(offset, 0),
                    textcoords="offset points",
                    ha=align,
                    va="center",
                    fontsize=8.5,
                    color=colour_of(row),
                )
        axes.set_title(label, fontsize=10, loc="left", color=MUTED, pad=16)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        _log_seconds(axes)
        _target(axes, target, "target ")
    for axes, (key, _) in zip(panels, names, strict=True):
        axes.margins(x=0.45)
        axes.autoscale_view()
        _few_ticks(axes, 1000.0 if key == "tpot" else 1.0)
    _rows(panels[0], data.names)
    figure.supxlabel(
        "seconds, in the middle milliseconds (log scales); ● median   ◆ 95th   ■ 99th percentile", fontsize=10
    )
    return figure


def draw_latency_cdf(data: ComparisonData) -> Figure:
    """Share of all arrivals that completed within t; a line that ends below 100 %: the rest never completed."""
    figure = _figure(5.0, data, "How long requests take, end to end")
    axes = figure.add_subplot()
    ends, spans = log_bin_ends(), []
    order = sorted(range(len(data.names)), key=lambda row: -data.summaries[row]["slo_attainment"])
    for row in order:
        summary = data.summaries[row]
        counts = np.sum([run.e2e_counts for run in data.runs[summary["policy"]]], axis=0)
        used = np.flatnonzero(counts)
        if len(used) == 0:
            continue
        span = slice(max(0, used[0] - 1), used[-1] + 1)
        share = 100 * np.cumsum(counts)[span] / summary["submitted"]
        label = f"{summary['policy']}  {100 * summary['slo_attainment']:.1f} %"
        axes.plot(ends[span], share, color=colour_of(row), linestyle=dash_of(row), linewidth=2, label=label)
        spans.append((ends[np.searchsorted(np.cumsum(counts), 0.002 * counts.sum())], ends[used[-1]]))
    if spans:
        axes.set_xlim(min(low for low, _ in spans), 1.05 * max(high for _, high in spans))
    axes.set_ylim(0, 101)
    axes.set_ylabel("share of all arrivals completed, %")
    axes.set_xlabel("end-to-end latency, seconds (log scale)")
    _log_seconds(axes)
    _target(axes, data.e2e_s, "target ")
    legend = axes.legend(loc="best", frameon=False, title="met their SLO", alignment="left")
    legend.get_title().set_color(MUTED)
    for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True):
        text.set_color(line.get_color())
    return figure


def draw_misses_per_bin(data: ComparisonData) -> Figure:
    """Share of misses in every bin, by policy."""
    used = [k for k, row in enumerate(data.summaries[0]["per_bin"]) if row["submitted"]]
    shares = np.array([[100 * s["per_bin"][k]["miss_rate"] for k in used] for s in data.summaries])
    figure = _figure(2.1 + 0.42 * len(data.names), data, "SLO misses by predicted output length")
    axes = figure.add_subplot()
    image = axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=2)
    axes.invert_yaxis()
    for (row, column), value in np.ndenumerate(shares):
        dark = value > 55
        axes.text(column + 0.5, row + 0.5, f"{value:.1f} %", ha="center", va="center", color="white" if dark else INK)
        where = f"{data.names[row]}, bin {data.bins[used[column]]}"
        mark(axes, column + 0.5, row + 0.5, f"{where}\n{value:.2f} % missed their SLO")
    submitted = [data.summaries[0]["per_bin"][k]["submitted"] for k in used]
    total = sum(submitted)
    labels = [f"{data.bins[k]}\n{100 * n / total:.0f} % of requests" for k, n in zip(used, submitted, strict=True)]
    axes.set_xticks(np.arange(len(used)) + 0.5, labels)
    axes.set_yticks(np.arange(len(data.names)) + 0.5, data.names)
    for tick, row in zip(axes.get_yticklabels(), range(len(data.names)), strict=True):
        tick.set_color(colour_of(row))
    axes.set_xlabel("bin, predicted output tokens")
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=axes, label="misses, % of the bin", pad=0.02).outline.set_visible(False)
    return figure


def draw_timeline(data: ComparisonData) -> Figure | None:
    """Waiting requests and batch size over time, under the first seed; None when no run kept a timeline."""
    kept = {name: run.timeline for name, runs in data.runs.items() for run in runs[:1] if run.timeline is not None}
    if not kept:
        return None
    seed = data.runs[next(iter(kept))][0].seed
    figure = _figure(6.2, data, f"Queue and batch size over time, seed {seed}")
    queue, batch = figure.subplots(2, 1, sharex=True)
    for row, name in enumerate(data.names):
        if name not in kept:
            continue
        line = kept[name]
        look: dict[str, Any] = {"color": colour_of(row), "linestyle": dash_of(row), "linewidth": 1.6}
        queue.plot(line.time_s / 60, _smooth(line.waiting), label=name, **look)
        batch.plot(line.time_s / 60, _smooth(line.batch), label=name, **look)
    queue.set_yscale("symlog", linthresh=10, linscale=0.5)
    queue.yaxis.set_major_formatter("{x:,.0f}")
    queue.set_ylabel("requests waiting (log above 10)")
    batch.set_ylabel("mean size of running batches")
    batch.set_xlabel(f"minutes since the first arrival (lines: means over {SMOOTH} of {TIMELINE_POINTS} samples)")
    last = max(line.last_arrival_s for line in kept.values()) / 60
    for axes in (queue, batch):
        axes.axvline(last, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0)
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
    _note(queue, last, "last arrival")
    figure.legend(
        *queue.get_legend_handles_labels(), loc="outside lower center", ncols=min(5, len(kept)), frameon=False
    )
    return figure


def _figure(height: float, data: ComparisonData, headline: str) -> Figure:
    return sheet(height, headline, data.title)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for tick, row in zip(axes.get_yticklabels(), range(len(names)), strict=True):
        tick.set_color(colour_of(row))


def _target(axes: Axes, seconds: float, label: str) -> None:
    """A vertical line at an SLO target, named at its upper end."""
    if not math.isfinite(seconds):
        return
    axes.axvline(seconds, color=TARGET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    _note(axes, seconds, f"{label}{_seconds(seconds)}", TARGET)


def _note(axes: Axes, place: float, text: str, colour: str = MUTED) -> None:
    """A small text above the axes at ``place`` on the x axis."""
    at: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (0, 3), "textcoords": "offset points"}
    axes.annotate(text, (place, 1), color=colour, ha="center", va="bottom", fontsize=8.5, **at)


def _log_seconds(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _few_ticks(axes: Axes, factor: float) -> None:
    """At most four labels on a log axis of seconds, times ``factor``: panels are narrow."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    low, high = axes.get_xlim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = high / low
    digits = (1,) if wide > 1000 else (1, 3) if wide > 30 else (1, 2, 5) if wide > 5 else (1, 2, 3, 4, 5, 7)
    places = [digit * 10.0**power for power in decades for digit in digits]
    inside = [place for place in places if low <= place <= high]
    step = -(-len(inside) // 4) or 1
    axes.xaxis.set_major_locator(FixedLocator(inside[::step]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{factor * value:.4g}"))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred mean over SMOOTH samples, so that the trend is visible behind single batches."""
    weight = np.ones(SMOOTH)
    return np.convolve(values, weight, "same") / np.convolve(np.ones(len(values)), weight, "same")


def _seconds(value: float) -> str:
    if value >= 100:
        return f"{value:.0f} s"
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.0f} ms"
