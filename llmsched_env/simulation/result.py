"""What a run leaves behind: request records, batches, totals; and how far it is while it is made."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig

LEFT = ("completed", "rejected", "dropped", "refused", "abandoned")
"""Counts of the requests that have left the system, whatever became of them."""


@dataclass(frozen=True)
class RunResult:
    """One finished (or cut off) run.

    ``requests`` (N,) layout.REQUEST, row i is request i; ``batches`` (M,) layout.BATCH, empty unless
    the batches were logged; ``bins`` (K+1,) layout.BIN; ``servers`` (S,) layout.SERVER; ``lane`` ()
    layout.LANE; ``itl_histogram`` (ITL_BINS,) int64; ``wall_s`` time of the
    compiled kernel alone.  The first ``warmup`` requests were simulated and are not to be scored.  With a prefix
    cache ``pools`` (S,) layout.POOL and ``cached_tokens`` (N,) int64, tokens that were found over all admissions;
    else None.  In sessions and closed loops a request gets its number when it arrives: ``planned`` (N,) int64 says
    which row of the Requests it is, those that never arrived last; else None.
    """

    config: SimConfig
    requests: NDArray
    batches: NDArray
    bins: NDArray
    servers: NDArray
    lane: np.void
    itl_histogram: NDArray[np.int64]
    wall_s: float
    warmup: int = 0
    pools: NDArray | None = None
    cached_tokens: NDArray[np.int64] | None = None
    planned: NDArray[np.int64] | None = None

    @property
    def counts(self) -> np.void:
        """Counts and integrals of the run, () layout.COUNTS."""
        return self.lane["counts"]


class Watch:
    """How far one run is, for another thread that looks while the run is made.

    It reads what the kernel writes anyway: a run that is watched waits for nobody and computes the same.  It keeps the
    row of the clock, so a run may end while it is looked at.
    """

    def __init__(self, total: int | None = None, until_s: float = math.inf) -> None:
        """``total``: requests of a run in chunks (None: not known); ``until_s``: when its arrivals end (inf: never)."""
        self._total, self._until_s = total, until_s
        self._lanes: NDArray | None = None
        self.began_s: float | None = None

    def follow(self, lanes: NDArray, total: int | None = None, until_s: float = math.inf) -> None:
        """A run begins, or goes on, on the first of ``lanes`` (N,) layout.LANE; called by the run.

        ``began_s`` is its start from then on, by ``time.monotonic``.
        """
        if total is not None:
            self._total = total
        self._until_s = min(self._until_s, until_s)
        self._lanes = lanes
        if self.began_s is None:
            self.began_s = time.monotonic()

    @property
    def share(self) -> float | None:
        """The share of the run that is made, 0 to 1: of its requests or of its time; None: it has not begun, or
        neither is known."""
        lanes, shares = self._lanes, []
        if lanes is None:
            return None
        lane = lanes[0]
        if self._total:
            shares.append(sum(int(lane["counts"][name]) for name in LEFT) / self._total)
        if 0.0 < self._until_s < math.inf:
            shares.append(float(lane["now"]) / self._until_s)
        return min(max(0.0, *shares), 1.0) if shares else None
