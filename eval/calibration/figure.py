"""Measured against fitted: a panel for prefill, one for decode, a line per batch size.  Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.calibration.cells import DECODE, PREFILL, Cell
from llmsched.eval.calibration.fit import predict
from llmsched.eval.calibration.rows import OK, Row
from llmsched.eval.figures.comparison import MUTED, PALETTE, STYLE
from llmsched_env.profiles import Profile

TITLES = {PREFILL: ("prefill", "prompt tokens per row"), DECODE: ("decode step", "tokens held per row")}


def draw(profile: Profile, rows: Sequence[Row], path: Path) -> None:
    """Write the picture of a profile and its raw rows."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, phase in zip(panels, (PREFILL, DECODE), strict=True):
            _panel(axes, profile, [row for row in rows if row.status == OK and row.cell.phase == phase])
            title, label = TITLES[phase]
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_xlabel(f"{label} (log scale)")
            axes.set_ylabel("ms (log scale)")
        held = profile.meta["errors"]
        words = [f"{k} {100 * held[k]['median']:.1f} %" for k in (DECODE, PREFILL, "e2e") if k in held]
        figure.suptitle(
            f"{profile.meta['model']} on {profile.meta['gpu']}: "
            f"measured (dots) and fitted (lines), form {profile.form}\n"
            f"held-out error, median: {', '.join(words)}",
            fontsize=10,
            x=0.01,
            ha="left",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, facecolor="white")


def _panel(axes: Any, profile: Profile, rows: Sequence[Row]) -> None:
    form, coefficients = profile.form, profile.coefficients
    batches = sorted({row.cell.batch for row in rows})
    for place, batch in enumerate(batches):
        own = [row for row in rows if row.cell.batch == batch]
        colour = PALETTE[place % len(PALETTE)]
        axes.plot([r.cell.tokens for r in own], [r.ms for r in own], "o", color=colour, markersize=3.5, alpha=0.45)
        lengths = np.geomspace(min(r.cell.tokens for r in own), max(r.cell.tokens for r in own), 60).round()
        line = [predict(form, coefficients, Cell(own[0].cell.phase, batch, int(n))) for n in lengths]
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
