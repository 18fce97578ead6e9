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

LATENCY_NAMES = (("ttft", "time to first token"), ("tpot", "time per output token"), ("e2el", "end to end"))
"""The latencies of a request, in the order of metrics.PER_REQUEST: key and words."""


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


def percent(share: float, error: str = "") -> str:
    """A share in per cent as figures write it, with its interval; -: undefined, no request arrived."""
    return "-" if math.isnan(share) else f"{share:.1f}{error} %"


def draw_slo_attainment(data: ComparisonData) -> Figure:
    """Share of requests within their SLO, per policy: mean, interval, and every seed as a dot; where there are several
    SLO classes, a thin bar for each below."""
    bars = attainment_bars(data)
    figure = _figure(1.6 + 0.42 * len(bars), data, "Requests that met their SLO")
    axes = figure.add_subplot()
    for place, bar in enumerate(bars):
        colour, share, half = colour_of(bar.row), 100 * bar.share, None if bar.half is None else 100 * bar.half
        axes.barh(place, share, height=0.3 if bar.of_class else 0.62, color=colour, alpha=0.28, linewidth=0)
        axes.plot(
            [100 * seed for seed in bar.seeds], [place] * len(bar.seeds), "o", color=colour, markersize=4, alpha=0.55
        )
        error = "" if half is None else f" ± {half:.1f}"
        if half is not None:
            low, high = min(half, share), min(half, 100 - share)  # a share has no more room
            look: dict[str, Any] = {"color": colour, "capsize": 4, "linewidth": 2, "fmt": "|", "markersize": 14}
            axes.errorbar(share, place, xerr=[[low], [high]], **look)
        axes.annotate(percent(share, error), (101.5, place), va="center", color=colour, annotation_clip=False)
        mark(axes, share, place, f"{bar.name.strip()}\n{share:.2f}{error} % of its arrivals met their SLO")
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of all arrivals, % (rejected, dropped and unfinished count as misses)")
    _rows(axes, [bar.name for bar in bars], [bar.row for bar in bars])
    return figure


@dataclass(frozen=True)
class AttainmentBar:
    """A bar of the figure: of the policy in ``row``, of all its requests or ``of_class``; shares from 0 to 1, ``seeds``
    one per run, ``half`` of the interval."""

    name: str
    row: int
    share: float
    half: float | None
    seeds: Sequence[float]
    of_class: bool = False


def attainment_bars(data: ComparisonData) -> list[AttainmentBar]:
    """The bars from top to bottom: a policy, then its SLO classes where there are several."""
    bars = []
    for row, summary in enumerate(data.summaries):
        runs = data.runs[summary["policy"]]
        seeds = [run.summary["slo_attainment"] for run in runs]
        half = summary["ci95"]["slo_attainment"]
        bars.append(AttainmentBar(summary["policy"], row, summary["slo_attainment"], half, seeds))
        for place, one in enumerate(summary["per_class"] if len(summary["per_class"]) > 1 else ()):
            seeds = [run.summary["per_class"][place]["slo_attainment"] for run in runs]
            share, half = one["slo_attainment"], one["ci95"]["slo_attainment"]
            bars.append(AttainmentBar(f"{one['class']}    ", row, share, half, seeds, of_class=True))
    return bars


def draw_latency_percentiles(data: ComparisonData) -> Figure:
    """Median, 95th and 99th percentile of TTFT, TPOT and E2E latency, per policy, each on a log axis of its own."""
    figure = _figure(1.9 + 0.42 * len(data.names), data, "Latency of completed requests")
    panels = figure.subplots(1, 3, sharey=True)
    targets = (data.ttft_s, data.tpot_s, data.e2e_s)
    for axes, (key, label), target in zip(panels, LATENCY_NAMES, targets, strict=True):
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
    for axes, (key, _) in zip(panels, LATENCY_NAMES, strict=True):
        axes.margins(x=0.45)
        axes.autoscale_view()
        _few_ticks(axes, 1000.0 if key == "tpot" else 1.0)
    _rows(panels[0], data.names)
    figure.supxlabel(
        "seconds, in the middle milliseconds (log scales); ● median   ◆ 95th   ■ 99th percentile", fontsize=10
    )
    return figure


def draw_latency_cdf(data: ComparisonData) -> Figure:
    """Share of all arrivals whose first token, time per token, and end came within t; the dashed lines are the targets.
    A line that ends below 100 %: the rest never completed, or has a single token and no time per token."""
    figure = _figure(4.4 + 0.22 * len(data.names), data, "How long requests take")
    panels = figure.subplots(1, 3, sharey=True)
    targets = {"ttft": data.ttft_s, "tpot": data.tpot_s, "e2el": data.e2e_s}
    order = sorted(range(len(data.names)), key=lambda row: -data.summaries[row]["slo_attainment"])
    for place, (axes, (key, label)) in enumerate(zip(panels, LATENCY_NAMES, strict=True)):
        _draw_cdf(axes, data, order, place, targets[key])
        axes.set_title(label, fontsize=10, loc="left", color=MUTED, pad=16)
        _few_ticks(axes, 1000.0 if key == "tpot" else 1.0)
        axes.set_xlabel(f"{'milliseconds' if key == 'tpot' else 'seconds'} (log scale)")
    panels[0].set_ylim(0, 101)
    panels[0].set_ylabel("share of all arrivals, %")
    lines, labels = panels[2].get_legend_handles_labels()
    legend = figure.legend(lines, labels, loc="outside lower center", frameon=False, ncols=3, title="met their SLO")
    legend.get_title().set_color(MUTED)
    for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True):
        text.set_color(line.get_color())
    return figure


def _draw_cdf(axes: Axes, data: ComparisonData, order: Sequence[int], place: int, target: float) -> None:
    """The lines of the latency with number ``place`` (metrics.PER_REQUEST), policies in ``order``."""
    ends, spans = log_bin_ends(), []
    for row in order:
        summary = data.summaries[row]
        counts = np.sum([run.latency_counts[place] for run in data.runs[summary["policy"]]], axis=0)
        used = np.flatnonzero(counts)
        label = f"{summary['policy']}  {percent(100 * summary['slo_attainment'])}"
        look: dict[str, Any] = {"color": colour_of(row), "linestyle": dash_of(row), "linewidth": 2, "label": label}
        if len(used) == 0:
            axes.plot([], [], **look)
            continue
        span = slice(max(0, used[0] - 1), used[-1] + 1)
        axes.plot(ends[span], 100 * np.cumsum(counts)[span] / summary["submitted"], **look)
        spans.append((ends[np.searchsorted(np.cumsum(counts), 0.002 * counts.sum())], ends[used[-1]]))
    _log_seconds(axes)
    if spans:
        inside = [target] if math.isfinite(target) else []
        low, high = min([low for low, _ in spans] + inside), max([high for _, high in spans] + inside)
        axes.set_xlim(low / 1.05, 1.05 * high)
    _target(axes, target, "target ")


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


def _rows(axes: Axes, names: Sequence[str], rows: Sequence[int] | None = None) -> None:
    """Names beside the axes, in the colours of the policies in ``rows`` (default: one policy a name)."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for tick, row in zip(axes.get_yticklabels(), rows or range(len(names)), strict=True):
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
