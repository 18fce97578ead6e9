"""Designs over many factors, and the effect of each: Latin hypercube with ranks, Sobol indices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import qmc

from llmsched.eval.runs.intervals import CONFIDENCE, Interval

Points = NDArray[np.float64]
"""Points of the unit cube, (n, factors)."""

RESAMPLES = 400


def latin(factors: int, points: int, rng: np.random.Generator) -> Points:
    """A Latin hypercube, (points, factors): every factor has one point in every n-th of its range."""
    return qmc.LatinHypercube(factors, seed=rng).random(points)


def rank_coefficients(points: Points, values: NDArray[np.float64]) -> tuple[list[Interval], float]:
    """Standardised regression coefficients on ranks, with t intervals, and R^2, which measures how monotone it is.

    A factor with one value only, or a response without spread, has the coefficient 0.
    """
    ranks = np.column_stack([stats.rankdata(column) for column in points.T])
    response = stats.rankdata(values)
    x, y = _standard(ranks), _standard(response[:, None])[:, 0]
    freedom = len(y) - x.shape[1] - 1
    if not y.any() or freedom < 1:
        return [Interval(0.0, None)] * x.shape[1], math.nan
    found, *_ = np.linalg.lstsq(x, y, rcond=None)
    residual = y - x @ found
    spread = np.sqrt(np.diag(np.linalg.pinv(x.T @ x)) * (residual @ residual) / freedom)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * spread
    return [Interval(float(b), float(h)) for b, h in zip(found, half, strict=True)], 1.0 - float(
        residual @ residual / (y @ y)
    )


def _standard(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = columns.std(axis=0)
    return (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


@dataclass(frozen=True)
class Saltelli:
    """The design of Saltelli (2010): two independent samples, and the first with each column of the second."""

    a: Points
    b: Points

    @classmethod
    def draw(cls, factors: int, size: int, rng: np.random.Generator) -> Saltelli:
        """``size`` (a power of 2) scrambled Sobol points of twice the factors."""
        both = qmc.Sobol(2 * factors, seed=rng).random(size)
        return cls(both[:, :factors], both[:, factors:])

    @property
    def points(self) -> Points:
        """All points to evaluate, (size * (factors + 2), factors)."""
        mixed = []
        for k in range(self.a.shape[1]):
            column = self.a.copy()
            column[:, k] = self.b[:, k]
            mixed.append(column)
        return np.concatenate([self.a, self.b, *mixed])

    def indices(self, values: NDArray[np.float64], rng: np.random.Generator) -> tuple[list[Interval], list[Interval]]:
        """First-order and total Sobol indices with bootstrap intervals; of a response without spread: 0."""
        size, factors = self.a.shape
        if np.ptp(values) == 0:
            return [Interval(0.0, None)] * factors, [Interval(0.0, None)] * factors
        blocks = values.reshape(factors + 2, 1, size)
        centre = blocks[:2].mean()
        parts: dict[Any, NDArray[np.float64]] = {
            "f_A": blocks[0] - centre,
            "f_B": blocks[1] - centre,
            "f_AB": blocks[2:] - centre,
        }
        found = stats.sobol_indices(func=parts, n=size)
        first, total = _flat(found.first_order), _flat(found.total_order)
        drawn = rng.integers(size, size=(RESAMPLES, size))
        again = [stats.sobol_indices(func={k: v[..., rows] for k, v in parts.items()}, n=size) for rows in drawn]
        firsts = np.array([_flat(one.first_order) for one in again])
        totals = np.array([_flat(one.total_order) for one in again])
        return _with(first, firsts), _with(total, totals)


def _flat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _with(values: NDArray[np.float64], samples: NDArray[np.float64]) -> list[Interval]:
    low, high = np.percentile(samples, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)], axis=0)
    return [Interval(float(v), float(h)) for v, h in zip(values, (high - low) / 2, strict=True)]
