"""Bin edges: where the queues by predicted output length are cut, never by looking at scored arrivals."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from llmsched_env.config import MAX_BINS
from llmsched_env.workload.workload import Workload


def bin_edges(workload: Workload, bins: int | str | Sequence[int], seed: int = 0) -> tuple[int, ...]:
    """Inner edges (ascending tokens, one fewer than bins) of the queues by predicted output tokens.

    ``bins`` is a number K, for quantiles of ``workload.calibration_predictions(seed)``, or the lower bounds
    of the bins, as numbers or text: ``(0, 64, 256, 1024)`` gives the edges (64, 256, 1024).  A bin that no
    prediction can reach stays, empty, and a warning says so.  Raises ``ValueError``.
    """
    if isinstance(bins, str) and bins.strip().isdecimal():
        bins = int(bins)
    if not isinstance(bins, (int, np.integer)):
        return parse_edges(bins)
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"bins={bins!r} is not allowed: give a number from 1 to {MAX_BINS}, or lower bounds.")
    predicted = np.sort(workload.calibration_predictions(seed))
    ranks = [-(-k * len(predicted) // int(bins)) for k in range(1, int(bins))]
    edges = tuple(int(predicted[min(rank, len(predicted) - 1)]) for rank in ranks)
    used = np.unique(np.searchsorted(edges, predicted, side="right")).size
    if used < bins:
        warnings.warn(
            f"bins={bins}: the quantiles {edges} of the predicted lengths coincide, so {bins - used} of the bins "
            f"stay empty; fewer bins, or other bounds, would do.",
            stacklevel=2,
        )
    return edges


def parse_edges(bounds: str | Sequence[int]) -> tuple[int, ...]:
    """Inner edges from the lower bounds of the bins: ``"(0,64,256)"`` or ``[0, 64, 256]`` gives (64, 256).

    The bounds must be whole numbers, at least 0, strictly ascending; the first is dropped, because what
    lies under it belongs to the first bin anyway.
    """
    wanted = "give ascending whole numbers, the lower bounds of the bins, like 0,64,256,1024."
    if isinstance(bounds, str):
        parts: Sequence = [part.strip() for part in bounds.strip().strip("()[]").split(",")]
        if not all(re.fullmatch(r"\d+", part) for part in parts):
            raise ValueError(f"bins={bounds!r} is not allowed: {wanted}")
    else:
        parts = list(bounds)
    numbers = [int(part) for part in parts]
    if any(isinstance(part, float) and part != int(part) for part in parts) or not numbers or numbers[0] < 0:
        raise ValueError(f"bins={bounds!r} is not allowed: {wanted}")
    if any(b <= a for a, b in pairwise(numbers)):
        raise ValueError(f"bins={bounds!r} is not strictly ascending: {wanted}")
    if len(numbers) > MAX_BINS:
        raise ValueError(f"bins={bounds!r} has {len(numbers)} bins: at most {MAX_BINS} are possible.")
    return tuple(numbers[1:])
