"""The figure of a fidelity run: the distribution of E2E latency, every real run against the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.figures.style import INK, MUTED, PALETTE
from llmsched.eval.reality.fidelity_report import LoadResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LatencyCurves:
    """E2E latencies in seconds, sorted, at one load: ``real``, an array (N,) per real run, and ``simulated`` (N,)."""

    real: Sequence[NDArray[np.float64]]
    simulated: NDArray[np.float64]


def draw_latencies(results: Sequence[LoadResult], curves: Sequence[LatencyCurves], title: str) -> Figure:
    """A panel per load."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * max(2, len(results)), 4.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(results), sharey=True))
    for axes, result, own in zip(panels, results, curves, strict=True):
        share = 100 * (np.arange(len(own.simulated)) + 0.5) / len(own.simulated)
        for place, run in enumerate(own.real):
            label = f"real, {len(own.real)} runs" if place == 0 else None
            axes.plot(np.sort(run), share, color=PALETTE[0], alpha=0.45, linewidth=1.4, label=label)
        axes.plot(np.sort(own.simulated), share, color=PALETTE[1], linewidth=2, dashes=(4, 2), label="simulated")
        p50, p95 = (line for line in result.lines if line.metric in ("e2e_p50", "e2e_p95"))
        heading = f"load {result.load:g}: p50 {100 * p50.error:+.1f} %, p95 {100 * p95.error:+.1f} %"
        axes.set_title(heading, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("end-to-end latency, s")
        axes.tick_params(colors=MUTED)
        axes.set_xlim(left=0)
        axes.legend(frameon=False, loc="lower right")
    panels[0].set_ylabel("share of requests, %")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure
