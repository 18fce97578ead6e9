"""Fits of the simulator's latency forms to measured cells, and their errors on cells that were left out.

Relative least squares: residuals are (fitted - measured) / measured, coefficients are at least 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from llmsched.eval.calibration.cells import DECODE, PREFILL, GridCell
from llmsched_env.profiles import COEFFICIENTS, Profile

Floats = NDArray[np.float64]
Points = Mapping[GridCell, float]
"""Measurement milliseconds by cell."""

E2E_TOKENS = (32, 128, 512)
"""Output lengths of the end-to-end error: prefill(b, P) + (n - 1) decode(b, P)."""

LEAST = {PREFILL: 4, DECODE: 4}
"""Fewest cells of a phase that a fit is made from."""


@dataclass(frozen=True)
class ErrorStatistics:
    """Absolute relative error over cells: median, 95th percentile, mean."""

    median: float
    p95: float
    mean: float

    @classmethod
    def of(cls, errors: Sequence[float]) -> ErrorStatistics:
        """The statistics of these absolute relative errors, at least one."""
        values = np.asarray(errors)
        return cls(float(np.median(values)), float(np.percentile(values, 95)), float(values.mean()))


@dataclass(frozen=True)
class Fit:
    """A form with its coefficients (ms, tokens) and its errors, by ``decode``, ``prefill`` and ``e2e``."""

    form: str
    coefficients: dict[str, float]
    in_sample: dict[str, ErrorStatistics]
    held_out: dict[str, ErrorStatistics]  # every cell predicted by a fit without it


def fit_all(points: Points) -> list[Fit]:
    """A fit of every form of the simulator, the one with the least errors on left-out cells first.

    The order is by the mean held-out error end to end; where no prompt length is also a context, by the mean of both
    phases.  ``ValueError`` when there are too few cells.
    """
    for phase, least in LEAST.items():
        have = sum(cell.phase == phase for cell in points)
        if have < least:
            raise ValueError(
                f"{have} {phase} cells were measured: a fit needs {least}. Give more time or a larger grid."
            )
    return sorted((_fit(form, points) for form in FITS), key=_score)


def _score(fit: Fit) -> float:
    errors = fit.held_out
    return errors["e2e"].mean if "e2e" in errors else (errors[DECODE].mean + errors[PREFILL].mean) / 2


def _fit(form: str, points: Points) -> Fit:
    coefficients = FITS[form](points)
    own = {cell: predict(form, coefficients, cell) for cell in points}
    held = {}
    for cell in points:
        others = {other: ms for other, ms in points.items() if other != cell}
        held[cell] = predict(form, FITS[form](others), cell)
    return Fit(form, coefficients, errors(own, points), errors(held, points))


def predict(form: str, coefficients: dict[str, float], cell: GridCell) -> float:
    """Milliseconds of a cell by the law of the simulator."""
    profile = Profile("fit", form, coefficients, float("inf"))
    if cell.phase == PREFILL:
        return profile.prefill_ms([cell.tokens] * cell.batch)
    return profile.decode_step_ms(cell.batch, cell.total)


def errors(predicted: Points, points: Points) -> dict[str, ErrorStatistics]:
    """Errors of the phases, and end to end over the cells where prefill and decode were both measured."""
    found = {
        phase: ErrorStatistics.of([abs(predicted[c] / ms - 1.0) for c, ms in points.items() if c.phase == phase])
        for phase in (DECODE, PREFILL)
    }
    both = [
        (cell, GridCell(DECODE, cell.batch, cell.tokens))
        for cell in points
        if cell.phase == PREFILL and GridCell(DECODE, cell.batch, cell.tokens) in points
    ]
    whole = [
        abs((predicted[p] + (n - 1) * predicted[d]) / (points[p] + (n - 1) * points[d]) - 1.0)
        for p, d in both
        for n in E2E_TOKENS
    ]
    return found | ({"e2e": ErrorStatistics.of(whole)} if whole else {})


def _split(points: Points) -> dict[str, float]:
    prefill, decode = _of(points, PREFILL), _of(points, DECODE)
    d = _linear([[1.0, c.batch, c.total] for c in decode], list(decode.values()))
    return dict(zip(COEFFICIENTS["split"], (*d, *_hinge(prefill)), strict=True))


def _affine(points: Points) -> dict[str, float]:
    prefill, decode = _of(points, PREFILL), _of(points, DECODE)
    d = _linear([[1.0, c.batch, c.total] for c in decode], list(decode.values()))
    p = _linear([[1.0, c.total, c.squares] for c in prefill], list(prefill.values()))
    return dict(zip(COEFFICIENTS["affine"], (*d, *p), strict=True))


def _hinge(points: Points) -> Floats:
    """p0, p1, p2 of max(p0, p1 T + p2 Q): every split of the cells by tokens is a start; the best ones are refined."""
    cells = sorted(points, key=lambda c: (c.total, c.squares))
    x = np.array([[c.total, c.squares] for c in cells], dtype=np.float64)
    y = np.array([points[c] for c in cells])
    starts = []
    for cut in range(len(cells) - 1):
        low = y[:cut]
        floor = float((1 / low).sum() / (1 / low**2).sum()) if cut else 0.0
        starts.append(np.array([floor, *_linear(x[cut:], y[cut:])]))

    def residuals(p: Floats) -> Floats:
        return np.maximum(p[0], x @ p[1:]) / y - 1.0

    return _refine(residuals, starts)


def _tokens(points: Points) -> dict[str, float]:
    """w0, e0, w1, a_p, a_d of max(w0, e0 + w1 T) + attention, both phases at once."""
    cells = list(points)
    y = np.array([points[c] for c in cells])
    decode = np.array([c.phase == DECODE for c in cells])
    t = np.array([c.batch if c.phase == DECODE else c.total for c in cells], dtype=np.float64)
    square = np.array([0.0 if c.phase == DECODE else c.squares for c in cells])
    held = np.array([c.total if c.phase == DECODE else 0.0 for c in cells])

    def residuals(p: Floats) -> Floats:
        return (np.maximum(p[0], p[1] + p[2] * t) + p[3] * square + p[4] * held) / y - 1.0

    starts = []
    for floor in np.quantile(y[decode], (0.0, 0.25, 0.5, 0.75)):
        line = _linear(np.column_stack([np.ones(len(t)), t, square, held]), y)
        starts.append(np.array([floor, *line]))
    return dict(zip(COEFFICIENTS["tokens"], _refine(residuals, starts), strict=True))


def _batch_length(points: Points) -> dict[str, float]:
    """a, beta, g: a constant prefill and a decode step that saturates in the batch."""
    prefill, decode = _of(points, PREFILL), _of(points, DECODE)
    (a,) = _linear([[1.0]] * len(prefill), list(prefill.values()))
    beta, slope = _linear([[1.0, (c.batch - 1) / c.batch] for c in decode], list(decode.values()))
    return {"a": float(a), "beta": float(beta), "g": float(slope / beta) if beta > 0 else 0.0}


FITS: Mapping[str, Callable[[Points], dict[str, float]]] = {
    "split": _split,
    "tokens": _tokens,
    "batch-length": _batch_length,
    "affine": _affine,
}


def control_errors(points: Points) -> dict[str, ErrorStatistics]:
    """Held-out errors of a decode step of constant time, for comparison."""
    own = _of(points, DECODE)
    held = []
    for cell, ms in own.items():
        others = [other for other in own if other != cell]
        (constant,) = _linear([[1.0]] * len(others), [own[c] for c in others])
        held.append(abs(float(constant) / ms - 1.0))
    return {"constant decode": ErrorStatistics.of(held)}


def scatter(samples: Sequence[Sequence[float]]) -> float:
    """Standard deviation of ln(ms) around the mean of its own cell, over all cells with two samples or more."""
    logs = [np.log(own) for own in samples if len(own) > 1]
    freedom = sum(len(own) - 1 for own in logs)
    return min(1.0, float(np.sqrt(sum(((own - own.mean()) ** 2).sum() for own in logs) / freedom))) if freedom else 0.0


def _of(points: Points, phase: str) -> dict[GridCell, float]:
    return {cell: ms for cell, ms in points.items() if cell.phase == phase}


def _linear(x: Sequence[Sequence[float]] | Floats, y: Sequence[float] | Floats) -> Floats:
    """Non-negative coefficients of least relative squares; columns are scaled to be comparable."""
    weighted = np.asarray(x, dtype=np.float64) / np.asarray(y)[:, None]
    scale = np.maximum(np.abs(weighted).max(axis=0), 1e-300)
    return nnls(weighted / scale, np.ones(len(weighted)))[0] / scale


def _refine(residuals: Callable[[Floats], Floats], starts: Sequence[Floats]) -> Floats:
    """The best result from the starts; coefficients are at least 0."""
    costs = [float(np.sum(residuals(start) ** 2)) for start in starts]
    order = np.argsort(costs)
    best, least = starts[order[0]], costs[order[0]]
    for place in order[:3]:
        start = starts[place]
        found = least_squares(residuals, start, bounds=(0.0, np.inf), x_scale=np.maximum(start, 1e-9), method="trf")
        if 2 * found.cost < least:
            best, least = found.x, 2 * float(found.cost)
    return best
