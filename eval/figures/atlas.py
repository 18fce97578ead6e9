"""The figure of a profile of the atlas: measured points, and what was simulated without them, over the clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmsched.eval.figures.style import MUTED, PALETTE
from llmsched_env.profiles import Profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (("TPOT", 4, 6), ("TTFT", 3, 5))
"""Title of a panel, and the places of the measured and of the simulated time in a point."""


def draw_points(profile: Profile) -> Figure:
    """A panel each for TPOT and TTFT, a colour for each pair of prompt and output."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    for axes, (title, measured, simulated) in zip(figure.subplots(1, 2), PANELS, strict=True):
        _panel(axes, profile.meta["measured_points"], measured, simulated)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylabel("ms (log scale)")
    errors = profile.meta.get("errors") or {}
    known = [name for name in ("tpot", "ttft") if name in errors]
    words = ", ".join(f"{name.upper()} {100 * errors[name]['median']:.1f} %" for name in known)
    figure.suptitle(
        f"{profile.name}: measured (dots) and simulated without the point (lines)\nleft-out error, median: {words}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Any, points: list[list[float]], measured: int, simulated: int) -> None:
    lengths = sorted({(point[0], point[1]) for point in points})
    for place, (prompt, output) in enumerate(lengths):
        own = sorted(
            (point for point in points if (point[0], point[1]) == (prompt, output)), key=lambda point: point[2]
        )
        colour = PALETTE[place % len(PALETTE)]
        clients = [point[2] for point in own]
        axes.plot(clients, [point[measured] for point in own], "o", color=colour, markersize=4)
        label = f"{prompt:g} in, {output:g} out"
        axes.plot(clients, [point[simulated] for point in own], "-", color=colour, linewidth=1.6, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("clients (log scale)")
    axes.tick_params(colors=MUTED)
    if len(lengths) <= len(PALETTE):
        axes.legend(fontsize=8, frameon=False)
