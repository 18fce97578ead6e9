"""The picture of a fidelity run: the distribution of E2E latency, every real run against the simulator's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.figures.comparison import INK, MUTED, PALETTE, STYLE
from llmsched.eval.reality.fidelity_report import LoadResult


@dataclass(frozen=True)
class Curves:
    """E2E latencies (s) of one load: of every real run, and simulated."""

    real: Sequence[NDArray[np.float64]]
    simulated: NDArray[np.float64]


def draw(results: Sequence[LoadResult], curves: Sequence[Curves], title: str, path: Path) -> None:
    """Write the picture, a panel per load.  Needs matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5 * max(2, len(results)), 4.4), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(results), sharey=True))
        for axes, result, own in zip(panels, results, curves, strict=True):
            share = 100 * (np.arange(len(own.simulated)) + 0.5) / len(own.simulated)
            for place, run in enumerate(own.real):
                label = f"real, {len(own.real)} runs" if place == 0 else None
                axes.plot(np.sort(run), share, color=PALETTE[0], alpha=0.45, linewidth=1.4, label=label)
            axes.plot(np.sort(own.simulated), share, color=PALETTE[1], linewidth=2, dashes=(4, 2), label="simulated")
            p50, p95 = (line for line in result.lines if line.metric in ("e2e_p50", "e2e_p95"))
            axes.set_title(
                f"load {result.load:g}: p50 {100 * p50.error:+.1f} %, p95 {100 * p95.error:+.1f} %",
                loc="left",
                fontsize=10,
                color=INK,
            )
            axes.set_xlabel("end-to-end latency, s")
            axes.tick_params(colors=MUTED)
            axes.set_xlim(left=0)
            axes.legend(frameon=False, loc="lower right")
        panels[0].set_ylabel("share of requests, %")
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, facecolor="white")
