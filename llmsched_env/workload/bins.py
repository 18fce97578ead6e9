"""Bin edges: where the queues by predicted output length are cut, never by looking at scored arrivals."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from llmsched_env.core.constants import MAX_BINS
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

    The bounds must be whole numbers, strictly ascending, and begin with 0: without it nobody could tell whether the
    first number is the first bin's lower bound or its upper one.  Raises ``ValueError``.
    """
    wanted = "give ascending whole numbers, the lower bounds of the bins, like 0,64,256,1024."
    parts: Sequence = [part.strip() for part in bounds.strip("()[] ").split(",")] if isinstance(bounds, str) else bounds
    try:
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"bins={bounds!r} is not allowed: {wanted}") from None
    if not numbers or not all(map(_is_whole, parts)) or numbers[0] < 0:
        raise ValueError(f"bins={bounds!r} is not allowed: {wanted}")
    if any(b <= a for a, b in pairwise(numbers)):
        raise ValueError(f"bins={bounds!r} is not strictly ascending: {wanted}")
    if numbers[0] != 0:
        raise ValueError(
            f"bins={bounds!r} is ambiguous: give the lower bounds of the bins, 0 first; in front of {numbers[0]} that "
            f"makes {len(numbers) + 1} bins, in place of it {len(numbers)}."
        )
    if len(numbers) > MAX_BINS:
        raise ValueError(f"bins={bounds!r} has {len(numbers)} bins: at most {MAX_BINS} are possible.")
    return tuple(numbers[1:])


def _is_whole(part: object) -> bool:
    """A whole number, or its digits."""
    return isinstance(part, (int, np.integer)) and not isinstance(part, bool) or bool(re.fullmatch(r"\d+", str(part)))
