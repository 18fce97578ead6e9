"""The figure of the optimum of LLMSchedSmall-v0: by queue length, by control limit, by load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmsched.eval.best_possible.smdp import BatchQueue, Optimum, control_limit, solve
from llmsched.eval.figures.style import GRID, INK, MUTED, PALETTE, TARGET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOADS = np.arange(0.1, 0.951, 0.05)
"""Loads of the third panel."""


def draw_structure(optimum: Optimum) -> Figure:
    """The best batch by queue length, the cost of every control limit, the best limit by load."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.9), layout="constrained")
    queue = optimum.queue
    figure.suptitle(
        f"When to launch a batch: the optimum at load {queue.load:g}, {queue.rate:.3g} requests/s, "
        f"batches to {queue.max_batch}",
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    by_length, by_limit, by_load = figure.subplots(1, 3)
    _by_length(by_length, optimum)
    _by_limit(by_limit, optimum)
    _by_load(by_load, queue)
    return figure


def _by_length(axes: Axes, optimum: Optimum) -> None:
    """The batch to launch for every queue length, 0 to wait."""
    lengths = np.arange(1, 2 * optimum.queue.max_batch + 3)
    sizes = optimum.policy[lengths]
    axes.plot(lengths, np.minimum(lengths, optimum.queue.max_batch), color=MUTED, linestyle=(0, (1.5, 1.2)))
    axes.annotate(
        "all that fits", (3.5, 3.5), xytext=(-6, 2), textcoords="offset points", ha="right", color=MUTED, fontsize=8.5
    )
    axes.bar(lengths, sizes, width=0.62, color=PALETTE[0])
    for length in lengths[sizes == 0]:
        axes.text(length, 0.06, "wait", ha="center", va="bottom", color=TARGET, rotation=90, fontsize=8.5)
    axes.set_xticks(lengths[:: max(1, len(lengths) // 10)])
    axes.set_yticks(np.arange(0, optimum.queue.max_batch + 1, max(1, optimum.queue.max_batch // 8)))
    axes.set_xlabel("requests waiting")
    axes.set_ylabel("batch to launch")
    axes.set_title("What is optimal", loc="left", fontsize=10, color=MUTED)
    axes.grid(axis="x", visible=False)


def _by_limit(axes: Axes, optimum: Optimum) -> None:
    """What every control limit costs above the optimum."""
    queue = optimum.queue
    limits = np.arange(1, queue.max_batch + 1)
    costs = [solve(queue, policy=control_limit(queue, limit, queue.max_batch)).cost for limit in limits.tolist()]
    gaps = 100.0 * (np.array(costs) / optimum.cost - 1.0)
    axes.plot(limits, gaps, "o-", color=PALETTE[0])
    best = int(np.argmin(gaps))
    axes.plot(limits[best], gaps[best], "o", color=TARGET, markersize=9)
    axes.annotate(
        f"{limits[best]}",
        (limits[best], gaps[best]),
        xytext=(0, 9),
        textcoords="offset points",
        color=TARGET,
        ha="center",
    )
    axes.set_xticks(limits[:: max(1, len(limits) // 8)])
    axes.set_ylim(bottom=-0.04 * max(float(gaps.max()), 0.1))
    axes.set_xlabel("control limit: wait while fewer are there")
    axes.set_ylabel("requests in the system, % above optimum")
    axes.set_title("1: never wait; the last: full batches only", loc="left", fontsize=10, color=MUTED)


def _by_load(axes: Axes, queue: BatchQueue) -> None:
    """The optimal control limit for every load."""
    full = queue.max_batch / queue.service_s[-1]
    found = [solve(BatchQueue(load * full, queue.service_s)).limit for load in LOADS.tolist()]
    limits = np.array([np.nan if limit is None else limit for limit in found])
    axes.step(LOADS, limits, where="mid", color=PALETTE[0], linewidth=2)
    axes.axvline(queue.load, color=TARGET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    axes.set_ylim(0.5, queue.max_batch + 0.5)
    axes.set_yticks(np.arange(1, queue.max_batch + 1, max(1, queue.max_batch // 8)))
    axes.tick_params(colors=INK)
    axes.grid(color=GRID)
    axes.set_xlabel("load")
    axes.set_ylabel("optimal control limit")
    axes.set_title("The busier, the longer it pays to wait", loc="left", fontsize=10, color=MUTED)
