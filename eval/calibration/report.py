"""The report of a calibration: measured, fitted and least time of every cell, and the errors of every form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from llmsched.eval.calibration.campaign import Measurement
from llmsched.eval.calibration.cells import GridCell
from llmsched.eval.calibration.fit import Fit, control_errors, predict


def report(
    cells: Sequence[Measurement], fits: Sequence[Fit], floors: Mapping[GridCell, float], bandwidth: float
) -> str:
    """The two tables; ``floors`` in ms by decode cell, ``bandwidth`` in bytes/s."""
    best = fits[0]
    lines = [f"{'cell (batch x tokens)':24}{'median ms':>10}{'cv':>7}{'fitted':>10}{'error':>8}{'floor ms':>10}"]
    for m in cells:
        if m.out_of_memory:
            lines.append(f"{m.cell!s:24}out of memory")
        elif m.samples:
            lines.append(_line(m, predict(best.form, best.coefficients, m.cell), floors.get(m.cell)))
    lines += [
        f"floor: weights and KV cache read once at {bandwidth / 1e9:.1f} GB/s; no decode step can be faster",
        "",
        f"{'form':14}{'decode':>16}{'prefill':>16}{'end to end':>16}   held out, median / p95 of |error|, %",
    ]
    for fit in fits:
        errors = [fit.held_out.get(key) for key in ("decode", "prefill", "e2e")]
        shown = ["-" if e is None else f"{100 * e.median:.1f} / {100 * e.p95:.1f}" for e in errors]
        lines.append(f"{fit.form:14}" + "".join(f"{text:>16}" for text in shown))
    points = {m.cell: m.ms for m in cells if m.samples}
    for name, error in control_errors(points).items():
        lines.append(f"{name:26}{100 * error.median:.1f} / {100 * error.p95:.1f}   (for comparison)")
    lines.append(f"chosen: {best.form}  " + "  ".join(f"{k}={v:.5g}" for k, v in best.coefficients.items()))
    noisy = [str(m.cell) for m in cells if m.noisy]
    if noisy:
        lines.append(f"NOISY, above the limit; the median counts, and the profile names them: {', '.join(noisy)}")
    lacking = [str(m.cell) for m in cells if not m.samples and not m.out_of_memory]
    if lacking:
        lines.append(f"NOT MEASURED, the budget ended first: {', '.join(lacking)}")
    return "\n".join(lines)


def _line(m: Measurement, fitted: float, floor: float | None) -> str:
    cv = "-" if math.isnan(m.cv) else f"{100 * m.cv:.1f}%{'!' * m.noisy}"
    least = "" if floor is None else f"{floor:10.3g}"
    return f"{m.cell!s:24}{m.ms:10.3f}{cv:>7}{fitted:10.3f}{100 * (fitted / m.ms - 1):+7.1f}%{least}"
