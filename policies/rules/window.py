"""Everything that gathered, at fixed intervals (a public batching engine's naive)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import wait


@policy("window", engines=("batch",), params={"every": wait(1000)}, queueing=lambda params: {"tick_s": params["every"]})
def window(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """At every multiple of every ms all that waits forms one batch (a batching engine's naive).

    A server that is still busy then is never interrupted: it takes part in the next one.
    """
    if record.at_tick or not record.can_wait:
        return record.num_bins, record.max_batch
    return record.num_bins, 0
