"""How far predicted and measured runs agree: errors beside the spread of repeats, differences, ranks, the gain.

``document``: a result (result.py).  ``which``: ``measured``, ``predicted`` or ``predicted_own``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from llmsched.eval.reality.carry_over.plan import Bars
from llmsched.eval.runs.intervals import Interval, paired_interval

MEASURED, PREDICTED, OWN_SPEED = "measured", "predicted", "predicted_own"


def values(document: Mapping[str, Any], which: str, policy: str, load: float, metric: str) -> dict[int, float]:
    """A metric by repeat; what does not exist is left out."""
    return {
        run["repeat"]: run[which][metric]
        for run in document["runs"]
        if run["policy"] == policy and run["load"] == load and run[which][metric] is not None
    }


@dataclass(frozen=True)
class Error:
    """Predicted over measured less 1, as the mean over repeats, and how far the repeats of it scatter (a share)."""

    mean: float
    spread: float

    def within(self, bar: float, spreads: float) -> bool:
        """Whether it is within a bar, or within so many times the spread of the repeats."""
        return abs(self.mean) <= max(bar, spreads * self.spread)


def relative_error(document: Mapping[str, Any], policy: str, load: float, metric: str, which: str = PREDICTED) -> Error:
    """Of a policy at a load.  Repeat by repeat, since measured and predicted have the same arrivals."""
    real, ours = (values(document, name, policy, load, metric) for name in (MEASURED, which))
    ratios = np.array([ours[k] / real[k] - 1.0 for k in sorted(real) if k in ours and real[k] > 0.0])
    if not len(ratios):
        return Error(math.nan, math.nan)
    return Error(float(ratios.mean()), float(ratios.std(ddof=1)) if len(ratios) > 1 else 0.0)


def difference(document: Mapping[str, Any], which: str, policy: str, base: str, load: float, metric: str) -> Interval:
    """Policy less base, paired by repeat."""
    return paired_interval(*(values(document, which, name, load, metric) for name in (policy, base)))


@dataclass(frozen=True)
class Ranks:
    """Pairs of policies at the loads: all, decided (interval without 0) when measured, when predicted, in both; and of
    those in both, how many have the same order."""

    pairs: int
    measured: int
    predicted: int
    both: int
    same: int

    @property
    def tau(self) -> float:
        """Kendall's tau over the pairs that are decided in both; NaN without one."""
        return (2 * self.same - self.both) / self.both if self.both else math.nan


def ranks(document: Mapping[str, Any], metric: str, loads: Sequence[float], which: str = PREDICTED) -> Ranks:
    """Of a metric over all pairs of policies at some loads."""
    counts = np.zeros(5, int)
    for load in loads:
        for one, other in combinations(document["plan"]["policies"], 2):
            real, ours = (difference(document, name, one, other, load, metric) for name in (MEASURED, which))
            both = real.excludes_zero and ours.excludes_zero
            same = both and (real.mean > 0) == (ours.mean > 0)
            counts += [1, real.excludes_zero, ours.excludes_zero, both, same]
    return Ranks(*counts.tolist())


@dataclass(frozen=True)
class Gain:
    """What a policy gains over another, measured and predicted (in the unit of the metric; its sign as it is)."""

    measured: Interval
    predicted: Interval

    @property
    def error(self) -> float:
        """Predicted over measured gain, less 1."""
        return self.predicted.mean / self.measured.mean - 1.0 if self.measured.mean else math.nan

    def carries(self, bars: Bars) -> bool:
        """Whether the measured gain is decided and the prediction is near it."""
        return self.measured.excludes_zero and abs(self.error) <= bars.gain


def gain(document: Mapping[str, Any], policy: str, load: float, metric: str, which: str = PREDICTED) -> Gain:
    """Of a policy over the first one; ``which``: the prediction."""
    base = document["plan"]["policies"][0]
    return Gain(*(difference(document, name, policy, base, load, metric) for name in (MEASURED, which)))
