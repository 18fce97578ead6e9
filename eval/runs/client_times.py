"""What a client's times say of a request: time per output token, and whether the SLO is met."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmsched_env.config import SLO


def tpot_s(ttft_s: ArrayLike, e2e_s: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Time per output token after the first, (N,) s; 0 where there is one token, NaN where a time is missing."""
    ttft, e2e, count = (np.asarray(values, np.float64) for values in (ttft_s, e2e_s, tokens))
    return np.where(count > 1, (e2e - ttft) / np.maximum(count - 1.0, 1.0), 0.0)


def meets(
    ttft_s: ArrayLike, e2e_s: ArrayLike, tokens: ArrayLike, slos: Sequence[SLO], classes: ArrayLike = 0
) -> NDArray[np.bool_]:
    """Whether the requests, (N,), meet the targets of their classes; a missing time meets none."""
    limits = np.array([(slo.ttft_s, slo.tpot_s, slo.e2e_s) for slo in slos])[np.asarray(classes)]
    times = np.stack([np.asarray(ttft_s, np.float64), tpot_s(ttft_s, e2e_s, tokens), np.asarray(e2e_s, np.float64)], 1)
    with np.errstate(invalid="ignore"):
        return (times <= limits).all(axis=1)
