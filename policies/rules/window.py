"""All waiting requests at fixed intervals (the naive mode of a public batching engine)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import wait


@policy("window", engines=("batch",), params={"every": wait(1000)}, queueing=lambda params: {"tick_s": params["every"]})
def window(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """All waiting requests as one batch, at every multiple of every ms (a batching engine's naive mode).

    A server that is busy then finishes its batch and takes part in the next window.
    """
    if record.at_tick or not record.can_wait:
        return record.num_bins, record.max_batch
    return record.num_bins, 0
