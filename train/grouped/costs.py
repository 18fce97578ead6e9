"""What decisions cost: misses to come, discounted in time, of one run and of the other runs on the same arrivals."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit
def _costs_to_go(times, when, horizon, out):
    at, total, last = len(when) - 1, 0.0, 0.0
    for i in range(len(times) - 1, -1, -1):
        while at >= 0 and when[at] >= times[i]:
            total = total * np.exp((when[at] - last) / horizon) + 1.0 if total > 0.0 else 1.0
            last = when[at]
            at -= 1
        out[i] = total * np.exp((times[i] - last) / horizon) if total > 0.0 else 0.0


def costs_to_go(times: Floats, when: Floats, horizon: float) -> Floats:
    """(N,): misses that are charged from each of ``times`` (N,) on, of the sorted ``when`` (M,); a miss that is charged
    x s later counts exp(-x / ``horizon``)."""
    out = np.empty(len(times))
    _costs_to_go(times, when, horizon, out)
    return out


def charged(rows: NDArray, met: NDArray[np.bool_], target_s: float) -> Floats:
    """When each miss of a run is charged (M,), sorted: at dispatch, when it is certain, at the latest at its deadline.

    ``rows`` (N,) are REQUEST rows, ``met`` (N,) says which met their target.
    """
    missed = rows[~met]
    deadline = missed["arrival"] + target_s
    return np.sort(np.fmin(missed["dispatch"], deadline))
