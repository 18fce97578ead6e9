"""What a run leaves behind: request records, batches, totals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig


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
