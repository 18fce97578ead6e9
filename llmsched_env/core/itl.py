"""Gaps between tokens (ITL), pooled by token into a histogram while batches are settled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.layout import ITL_BINS, ITL_LOW_S, ITL_RATIO

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

_LOG_RATIO = math.log(ITL_RATIO)


def gap_edges() -> np.ndarray:
    """Upper ends of the histogram's bins, (ITL_BINS,) float64 seconds."""
    return ITL_LOW_S * ITL_RATIO ** np.arange(ITL_BINS)


@part
def gap_bin(gap):
    """Bin of a gap of ``gap`` seconds."""
    if gap <= ITL_LOW_S:
        return 0
    return min(ITL_BINS - 1, int(math.ceil(math.log(gap / ITL_LOW_S) / _LOG_RATIO)))


@part
def _count(state: State, n, low, high):
    """Gaps of the members of the batch at the steps low + 1, ..., high."""
    count = 0
    for m in range(n):
        i = state.members[m]
        if i >= state.lane.warmup:
            count += max(0, min(state.requests[i].output - state.requests[i].generated - 1, high) - low)
    return count


@apart
def add_gaps(state: State, n, base, slope, first, last):
    """Add the gaps of steps first, ..., last - 1; step j takes base + slope * j for each member still decoding."""
    counts = state.counts
    if len(state.gaps) == 0 or last <= first:
        return
    lane = state.lane
    for m in range(n):
        i = state.members[m]
        if i >= lane.warmup:
            top = float(min(state.requests[i].output - state.requests[i].generated - 1, last - 1))
            low = first - 1.0
            if top > low:
                k, s1 = top - low, 0.5 * (top * (top + 1.0) - low * (low + 1.0))
                s2 = (top * (top + 1.0) * (2.0 * top + 1.0) - low * (low + 1.0) * (2.0 * low + 1.0)) / 6.0
                counts.itl_count += k
                counts.itl_sum += k * base + slope * s1
                counts.itl_sum2 += k * base * base + 2.0 * base * slope * s1 + slope * slope * s2
    place, done = gap_bin(base + slope * first), first - 1
    while done < last - 1:
        upto = last - 1
        if slope > 0.0 and place < ITL_BINS - 1:
            edge = ITL_LOW_S * ITL_RATIO**place
            upto = min(upto, max(done, int((edge - base) / slope)))
        if upto > done:
            state.gaps[place] += _count(state, n, done, upto)
        done = upto
        place += 1


@part
def add_gap(state: State, count, gap):
    """Add a gap between two tokens that ``count`` scored members have."""
    counts = state.counts
    if len(state.gaps) == 0 or count == 0:
        return
    counts.itl_count += count
    counts.itl_sum += count * gap
    counts.itl_sum2 += count * (gap * gap)
    state.gaps[gap_bin(gap)] += count


@part
def add_stall(state: State, i, gap):
    """Add a gap between two tokens of request ``i`` alone: it was preempted, or began to decode before others did."""
    add_gap(state, int(i >= state.lane.warmup), gap)


@part
def add_run(state: State, count, first, growth, k):
    """Add the gaps of ``count`` members over ``k`` iterations, which take first, first + growth, ..."""
    counts = state.counts
    if len(state.gaps) == 0 or count == 0 or k <= 0:
        return
    n, s1 = float(k), 0.5 * k * (k - 1.0)
    s2 = k * (k - 1.0) * (2.0 * k - 1.0) / 6.0
    counts.itl_count += count * n
    counts.itl_sum += count * (n * first + growth * s1)
    counts.itl_sum2 += count * (n * first * first + 2.0 * first * growth * s1 + growth * growth * s2)
    place, done = gap_bin(first), 0
    while done < k:
        upto = k
        if growth > 0.0 and place < ITL_BINS - 1:
            edge = ITL_LOW_S * ITL_RATIO**place
            upto = min(k, max(done, int((edge - first) / growth) + 1))
        state.gaps[place] += count * (upto - done)
        done = upto
        place += 1
