"""Verdicts on a challenger: interquartile means with stratified bootstrap intervals, after the practice of
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021).

A stratum is a case at a load; in it every policy has misses (seeds,) on the same arrivals.  Resampling draws seeds
within every stratum, for all policies alike, so pairs stay pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

Floats = NDArray[np.float64]
RESAMPLES = 2_000
LEVEL = 0.95


@dataclass(frozen=True)
class Stratum:
    """Misses (seeds,) of the challenger and of every rival."""

    case: str
    load: float
    challenger: Floats
    rivals: Mapping[str, Floats]

    def best(self, names: Sequence[str] | None = None) -> str:
        """The rival, of ``names``, with fewest misses: chosen in hindsight, on the scored seeds themselves."""
        return min(names or self.rivals, key=lambda name: float(self.rivals[name].mean()))


@dataclass(frozen=True)
class Estimate:
    """A statistic over strata and its bootstrap interval (NaN: there was no stratum)."""

    value: float
    low: float
    high: float
    strata: int


def iqm(values: Floats) -> float:
    """Interquartile mean: the mean of the middle half."""
    return float(trim_mean(values, 0.25))


def reductions(strata: Sequence[Stratum], names: Sequence[str] | None) -> list[tuple[Floats, Floats]]:
    """Misses of the challenger and of the best of ``names`` in every stratum."""
    return [(stratum.challenger, stratum.rivals[stratum.best(names)]) for stratum in strata]


def fewer(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    """IQM over strata of 1 - misses of the challenger / misses of the rival (means over seeds)."""
    return iqm(np.array([1.0 - own.mean() / max(other.mean(), 1e-12) for own, other in pairs]))


def improvement(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    """Probability that a run of the challenger misses less than a run of the rival (ties: half), mean of strata."""
    chances = []
    for own, other in pairs:
        difference = other[None, :] - own[:, None]
        chances.append(float(np.mean((difference > 0) + 0.5 * (difference == 0))))
    return float(np.mean(chances))


def estimate(
    pairs: Sequence[tuple[Floats, Floats]],
    statistic: Callable[[Sequence[tuple[Floats, Floats]]], float],
    rng: np.random.Generator,
    resamples: int | None = None,
) -> Estimate:
    """The statistic with its percentile interval under resampling of seeds within strata."""
    if not pairs:
        return Estimate(np.nan, np.nan, np.nan, 0)
    found = np.empty(RESAMPLES if resamples is None else resamples)
    for i in range(len(found)):
        drawn = []
        for own, other in pairs:
            rows = rng.integers(len(own), size=len(own))
            drawn.append((own[rows], other[rows]))
        found[i] = statistic(drawn)
    low, high = np.quantile(found, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Estimate(statistic(pairs), float(low), float(high), len(pairs))


def profile(misses: Sequence[Floats], thresholds: Floats) -> Floats:
    """Share of all runs with at most so many misses (performance profile), per threshold."""
    every = np.concatenate(misses)
    return np.array([float(np.mean(every <= threshold)) for threshold in thresholds])
