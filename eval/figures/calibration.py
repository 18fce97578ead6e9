"""The figure of a latency profile: measured against fitted, a panel for prefill, one for decode, a line per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsched.eval.calibration.cells import DECODE, PREFILL, GridCell
from llmsched.eval.calibration.fit import predict
from llmsched.eval.calibration.rows import OK, SampleRow
from llmsched.eval.figures.style import MUTED, PALETTE
from llmsched_env.profiles import Profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {PREFILL: ("prefill", "prompt tokens per row"), DECODE: ("decode step", "tokens held per row")}


def draw_profile(profile: Profile, rows: Sequence[SampleRow]) -> Figure:
    """A profile and its raw rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, phase in zip(panels, (PREFILL, DECODE), strict=True):
        _panel(axes, profile, [row for row in rows if row.status == OK and row.cell.phase == phase])
        title, label = TITLES[phase]
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(f"{label} (log scale)")
        axes.set_ylabel("ms (log scale)")
    held_out = profile.meta.get("errors") or {}
    words = [f"{k} {100 * held_out[k]['median']:.1f} %" for k in (DECODE, PREFILL, "e2e") if k in held_out]
    figure.suptitle(
        f"{profile.meta.get('model')} on {profile.meta.get('gpu')}: "
        f"measured (dots) and fitted (lines), form {profile.form}\n"
        f"held-out error, median: {', '.join(words)}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Any, profile: Profile, rows: Sequence[SampleRow]) -> None:
    form, coefficients = profile.form, profile.coefficients
    batches = sorted({row.cell.batch for row in rows})
    for place, batch in enumerate(batches):
        own = [row for row in rows if row.cell.batch == batch]
        colour = PALETTE[place % len(PALETTE)]
        axes.plot([r.cell.tokens for r in own], [r.ms for r in own], "o", color=colour, markersize=3.5, alpha=0.45)
        lengths = np.geomspace(min(r.cell.tokens for r in own), max(r.cell.tokens for r in own), 60).round()
        line = [predict(form, coefficients, GridCell(own[0].cell.phase, batch, int(n))) for n in lengths]
        axes.plot(lengths, line, "-", color=colour, linewidth=1.6)
        axes.annotate(
            f"batch {batch}",
            (lengths[-1], line[-1]),
            xytext=(4, 0),
            textcoords="offset points",
            color=colour,
            fontsize=8,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.margins(x=0.16)
    axes.tick_params(colors=MUTED)
