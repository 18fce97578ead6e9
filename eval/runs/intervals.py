"""Student t intervals over seeds, and differences between policies paired seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and the half width of its 95 % interval, both in the unit of the values.

    ``half`` is None where there is no interval: one seed, or none.
    """

    mean: float
    half: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; False without an interval."""
        return self.half is not None and abs(self.mean) > self.half

    def times(self, factor: float) -> Interval:
        """The interval in another unit, ``factor`` of which are one of this."""
        return Interval(self.mean * factor, None if self.half is None else self.half * abs(factor))


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean of ``values`` (one per seed) +- t(0.975, n-1) s / sqrt(n), or another quantile for another ``confidence``.

    With an undefined value (NaN) the mean is undefined: a policy without a value under one seed has no mean.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0 or not np.all(np.isfinite(array)):
        return Interval(math.nan, None)
    mean = float(array.mean())
    if len(array) == 1:
        return Interval(mean, None)
    error = float(array.std(ddof=1)) / math.sqrt(len(array))
    return Interval(mean, float(stdtrit(len(array) - 1, 0.5 + confidence / 2)) * error)


def paired_interval(values: dict[int, float], baseline: dict[int, float]) -> Interval:
    """Interval of ``values - baseline`` over the seeds that both have; keys are seeds."""
    return interval([values[seed] - baseline[seed] for seed in sorted(values) if seed in baseline])
