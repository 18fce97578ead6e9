"""Statistics of a challenger: interquartile means with stratified bootstrap intervals, after the practice of
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021).

A stratum is a case at a load; in it every rival has misses (seeds,) and the challenger misses (networks, seeds), all
on the same arrivals.  A network is one run of training, a seed one run of the simulator.  Resampling draws seeds within
every stratum, the same for all policies, so pairs stay pairs.  Networks are drawn once for all strata, where Agarwal et
al. draw within every task: their runs are trained for one task each, while here the same network runs in all strata,
and a bad one is bad in many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]
"""Misses (networks, seeds) of the challenger, or (seeds,) of its only network, and misses (seeds,) of a rival."""

RESAMPLES = 2_000
LEVEL = 0.95


@dataclass(frozen=True)
class Stratum:
    """Misses (networks, seeds) of the challenger and (seeds,) of every rival; ``also``: of policies that are only
    reported."""

    case: str
    load: float
    challenger: Floats
    rivals: Mapping[str, Floats]
    also: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "challenger", np.atleast_2d(self.challenger))

    @property
    def mean(self) -> Floats:
        """Misses (seeds,) of the challenger, the mean over its networks."""
        return self.challenger.mean(axis=0)

    def best(self, names: Sequence[str] | None = None) -> str:
        """The rival, of ``names``, with fewest misses: chosen in hindsight, on the scored seeds themselves."""
        return min(names or self.rivals, key=lambda name: float(self.of(name).mean()))

    def of(self, name: str) -> Floats:
        """Misses (seeds,) of a rival, or of one that is only reported."""
        return self.rivals[name] if name in self.rivals else self.also[name]

    def difference(self, names: Sequence[str] | None = None) -> Floats:
        """Misses (seeds,) of the challenger less those of the best of ``names``, paired by seed."""
        return self.mean - self.of(self.best(names))


@dataclass(frozen=True)
class Estimate:
    """A statistic over strata and its bootstrap interval (NaN: there was no stratum)."""

    value: float
    low: float
    high: float
    strata: int


@dataclass(frozen=True)
class Statistic:
    """A figure over strata.

    ``of_stratum``: misses of the challenger (N, S) and of a rival (S,), weights of the networks (R, N) and of the seeds
    (R, S), each row of sum 1, to R figures.  ``over_strata``: figures (strata, R) to R figures.
    """

    of_stratum: Callable[[Floats, Floats, Floats, Floats], Floats]
    over_strata: Callable[[Floats], Floats]

    def __call__(self, pairs: Sequence[Pair]) -> float:
        """The figure of the sample itself, with equal weights."""
        networks, seeds = np.atleast_2d(pairs[0][0]).shape
        even = np.full((len(pairs), 1, seeds), 1.0 / seeds)
        return float(self.weighted(pairs, np.full((1, networks), 1.0 / networks), even)[0])

    def weighted(self, pairs: Sequence[Pair], networks: Floats, seeds: Floats) -> Floats:
        """Figures (R,) under weights of the networks (R, N) and of the seeds (strata, R, S)."""
        found = [
            self.of_stratum(np.atleast_2d(own), other, networks, seeds[row]) for row, (own, other) in enumerate(pairs)
        ]
        return self.over_strata(np.array(found))


def iqm(values: Floats) -> Floats:
    """Interquartile mean over the first axis: the mean of the middle half."""
    return np.asarray(trim_mean(values, 0.25, axis=0))


def reductions(strata: Sequence[Stratum], names: Sequence[str] | None) -> list[Pair]:
    """Misses of the challenger and of the best of ``names`` in every stratum."""
    return [(stratum.challenger, stratum.of(stratum.best(names))) for stratum in strata]


def _saved(own: Floats, other: Floats, networks: Floats, seeds: Floats) -> Floats:
    """1 - misses of the challenger / misses of the rival, means over networks and seeds."""
    return 1.0 - np.sum((networks @ own) * seeds, axis=1) / np.maximum(seeds @ other, 1e-12)


def _wins(own: Floats, other: Floats, networks: Floats, seeds: Floats) -> Floats:
    """Share of all pairs (run of the challenger, run of the rival) in which the first misses less; ties: half."""
    difference = other[None, None, :] - own[:, :, None]
    better = (difference > 0) + 0.5 * (difference == 0)
    of_pairs = (networks @ better.reshape(len(own), -1)).reshape(len(networks), *better.shape[1:])
    return np.einsum("rst,rs,rt->r", of_pairs, seeds, seeds)


MISSES_SAVED = Statistic(_saved, iqm)
"""IQM over strata of 1 - misses of the challenger / misses of the rival."""

BETTER_RUNS = Statistic(_wins, lambda values: values.mean(axis=0))
"""Probability that a run of the challenger misses less than a run of the rival, mean over strata."""


def estimate(
    pairs: Sequence[Pair], statistic: Statistic, rng: np.random.Generator, resamples: int | None = None
) -> Estimate:
    """The statistic with its percentile interval under resampling of networks, and of seeds within strata."""
    if not pairs:
        return Estimate(np.nan, np.nan, np.nan, 0)
    networks, seeds = np.atleast_2d(pairs[0][0]).shape
    times = RESAMPLES if resamples is None else resamples
    rows = rng.integers(seeds, size=(times, len(pairs), seeds))
    of_seeds = np.stack([_weights(rows[:, place], seeds) for place in range(len(pairs))])
    of_networks = _weights(rng.integers(networks, size=(times, networks)), networks)
    found = statistic.weighted(pairs, of_networks, of_seeds)
    low, high = np.quantile(found, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Estimate(statistic(pairs), float(low), float(high), len(pairs))


def _weights(drawn: NDArray[np.int64], count: int) -> Floats:
    """How often each of ``count`` was drawn, as a share, by resample: (R, draws) to (R, count)."""
    found = np.zeros((len(drawn), count))
    np.add.at(found, (np.arange(len(drawn))[:, None], drawn), 1.0 / drawn.shape[1])
    return found


def profile(misses: Sequence[Floats], thresholds: Floats) -> Floats:
    """Share of all runs with at most so many misses (performance profile), per threshold."""
    every = np.concatenate([runs.ravel() for runs in misses])
    return np.array([float(np.mean(every <= threshold)) for threshold in thresholds])
