"""Fits of the simulator's latency forms to measured cells, and their errors on cells that were left out.

Relative least squares: residuals are (fitted - measured) / measured, coefficients are at least 0.  A cell is one of the
grid of a calibration, or an iteration of a running server in which prompts and decoding are mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from llmsched.eval.calibration.cells import DECODE, MIXED, PREFILL, Cell, GridCell
from llmsched_env.profiles import COEFFICIENTS, Profile

Floats = NDArray[np.float64]
Points = Mapping[Any, float]
"""Measurement milliseconds by cell."""

E2E_TOKENS = (32, 128, 512)
"""Output lengths of the end-to-end error: prefill(b, P) + (n - 1) decode(b, P)."""

MOST_TRIALS = 100
"""Most evaluations from one start of a fit; a start that needs more is one of several, and a poor one."""

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


def fit_all(points: Points, forms: Sequence[str] = ()) -> list[Fit]:
    """A fit of every form of the simulator (or of ``forms``), the one with the least errors on left-out cells first.

    The order is by the mean held-out error end to end; where no prompt length is also a context, by the mean of the
    phases.  ``ValueError`` when there are too few cells.
    """
    for phase, least in LEAST.items():
        have = sum(cell.phase in (phase, MIXED) for cell in points)
        if have < least:
            raise ValueError(
                f"{have} {phase} cells were measured: a fit needs {least}. Give more time or a larger grid."
            )
    return sorted((_fit(form, points) for form in forms or FITS), key=_score)


def _score(fit: Fit) -> float:
    errors = fit.held_out
    return errors["e2e"].mean if "e2e" in errors else sum(each.mean for each in errors.values()) / len(errors)


def _fit(form: str, points: Points) -> Fit:
    coefficients = FITS[form](points)
    own = {cell: predict(form, coefficients, cell) for cell in points}
    held = {}
    for cell in points:
        others = {other: ms for other, ms in points.items() if other != cell}
        held[cell] = predict(form, FITS[form](others), cell)
    return Fit(form, coefficients, errors(own, points), errors(held, points))


def predict(form: str, coefficients: dict[str, float], cell: Cell) -> float:
    """Milliseconds of a cell by the law of the simulator."""
    return Profile("fit", form, coefficients, float("inf")).iteration_ms(*cell.work)


def errors(predicted: Points, points: Points) -> dict[str, ErrorStatistics]:
    """Errors of the phases, and end to end over the cells where prefill and decode were both measured."""
    sizes = {
        phase: [abs(predicted[c] / ms - 1.0) for c, ms in points.items() if c.phase == phase]
        for phase in (DECODE, PREFILL, MIXED)
    }
    found = {phase: ErrorStatistics.of(own) for phase, own in sizes.items() if own}
    both = [
        (cell, GridCell(DECODE, cell.batch, cell.tokens))
        for cell in points
        if isinstance(cell, GridCell) and cell.phase == PREFILL and GridCell(DECODE, cell.batch, cell.tokens) in points
    ]
    whole = [
        abs((predicted[p] + (n - 1) * predicted[d]) / (points[p] + (n - 1) * points[d]) - 1.0)
        for p, d in both
        for n in E2E_TOKENS
    ]
    return found | ({"e2e": ErrorStatistics.of(whole)} if whole else {})


def _rows(points: Points) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Of the cells: the columns 1, b, KV, 1, T, Q of the law, the first three 0 where no member decodes and the fourth
    where one does, (C, 6); ms (C,); whether no member decodes, (C,)."""
    work = np.array([cell.work for cell in points], dtype=np.float64)
    alone = work[:, 0] == 0.0
    columns = np.column_stack([~alone, work[:, :2], alone, work[:, 2:]])
    return columns.astype(np.float64), np.array(list(points.values())), alone


def _split(points: Points) -> dict[str, float]:
    x, y, alone = _rows(points)
    start = np.concatenate([_linear(x[~alone], y[~alone])[:3], _hinge(x[alone, 4:], y[alone])])
    if not any(cell.phase == MIXED for cell in points):
        return dict(zip(COEFFICIENTS["split"], start, strict=True))

    def residuals(p: Floats) -> Floats:
        return np.where(alone, np.maximum(p[3], x[:, 4:] @ p[4:]), x[:, [0, 1, 2, 4, 5]] @ p[[0, 1, 2, 4, 5]]) / y - 1.0

    found = _refine(residuals, [start, _linear(x, y)])
    return dict(zip(COEFFICIENTS["split"], _with_floor(found, alone), strict=True))


def _affine(points: Points) -> dict[str, float]:
    x, y, alone = _rows(points)
    return dict(zip(COEFFICIENTS["affine"], _with_floor(_linear(x, y), alone), strict=True))


def _with_floor(found: Floats, alone: NDArray[np.bool_]) -> Floats:
    """The coefficients; p0 is d0 where no iteration with chunks alone was measured."""
    return found if alone.any() else np.concatenate([found[:3], found[:1], found[4:]])


def _hinge(x: Floats, y: Floats) -> Floats:
    """p0, p1, p2 of max(p0, p1 T + p2 Q): every split of the cells by tokens is a start; the best ones are refined."""
    if not len(y):
        return np.zeros(3)
    order = np.lexsort((x[:, 1], x[:, 0]))
    x, y = x[order], y[order]
    starts = []
    for cut in range(max(len(y) - 1, 1)):
        low = y[:cut]
        floor = float((1 / low).sum() / (1 / low**2).sum()) if cut else 0.0
        starts.append(np.array([floor, *_linear(x[cut:], y[cut:])]))

    def residuals(p: Floats) -> Floats:
        return np.maximum(p[0], x @ p[1:]) / y - 1.0

    return _refine(residuals, starts)


def _tokens(points: Points) -> dict[str, float]:
    """w0, e0, w1, a_p, a_d of max(w0, e0 + w1 T) + attention, both phases at once."""
    x, y, alone = _rows(points)
    t = x[:, 1] + x[:, 4]

    def residuals(p: Floats) -> Floats:
        return (np.maximum(p[0], p[1] + p[2] * t) + p[3] * x[:, 5] + p[4] * x[:, 2]) / y - 1.0

    columns = np.column_stack([np.ones(len(t)), t, x[:, 5], x[:, 2]])
    floors = np.quantile(y if alone.all() else y[~alone], (0.0, 0.25, 0.5, 0.75))
    starts = [np.array([floor, *_linear(columns, y)]) for floor in floors]
    for cut in np.quantile(t, (0.3, 0.5, 0.7)):  # the floor from iterations of few tokens, the slope from the others
        few = t <= cut
        if few.any() and not few.all():
            starts.append(np.array([_linear(columns[few][:, [0, 3]], y[few])[0], *_linear(columns[~few], y[~few])]))
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
        scale: dict[str, Any] = {"x_scale": np.maximum(start, 1e-9), "method": "trf", "max_nfev": MOST_TRIALS}
        found = least_squares(residuals, start, bounds=(0.0, np.inf), **scale)
        if 2 * found.cost < least:
            best, least = found.x, 2 * float(found.cost)
    return best
