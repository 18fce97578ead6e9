"""The figure of predicted runs: the distributions of TTFT and of E2E latency, logged and simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmsched.eval.figures.style import INK, PALETTE, sheet
from llmsched.eval.reality.log_report import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (("ttft", "time to first token, s"), ("e2e", "end-to-end latency, s"))
"""Latency by its key in the errors, and the label of its axis."""

PANEL_HEIGHT = 2.1
"""Inches."""

DPI = 130


def draw_predictions(predictions: Sequence[Prediction], title: str) -> Figure:
    """A row of panels per run, a panel per latency."""
    figure = sheet(0.6 + PANEL_HEIGHT * len(predictions), "Predicted against a real engine's log", title)
    grid = figure.subplots(len(predictions), 2, squeeze=False, sharey=True, sharex="col")
    for row, each in zip(grid, predictions, strict=True):
        sent = each.run.requests.arrival_s
        logged = (each.run.ttft_s, each.run.e2e_s)
        simulated = (each.seen.first_s - sent, each.seen.done_s - sent)
        for axes, (metric, label), real, model in zip(row, PANELS, logged, simulated, strict=True):
            share = 100 * (np.arange(len(real)) + 0.5) / len(real)
            axes.plot(np.sort(real), share, color=PALETTE[0], linewidth=2, label="logged")
            axes.plot(np.sort(model), share, color=PALETTE[1], linewidth=1.8, dashes=(4, 2), label="simulated")
            half, high = (100 * each.errors[f"{metric}_{level}"] for level in ("p50", "p95"))
            text = f"{metric.upper()}, run {each.run.label}: p50 {half:+.1f} %, p95 {high:+.1f} %"
            axes.set_title(text, loc="left", fontsize=9, color=INK)
            axes.set_xscale("log")
            if each is predictions[-1]:
                axes.set_xlabel(label)
        row[0].set_ylabel("requests, %")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure
