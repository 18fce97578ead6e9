"""Full batches, but nobody waits for one longer than a set time: Triton, TorchServe, and a GPT-2 benchmark's naive."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import batch, wait


@policy(
    "timeout",
    engines=("batch",),
    params={"batch": batch(4), "wait": wait(500)},
    queueing=lambda params: {"hold_s": params["wait"]},
)
def timeout(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Waits until batch requests are there or the oldest waited wait ms (Triton and TorchServe's dynamic batching).

    The same sum is compared as by the hold timer that wakes it: arrival + wait.
    """
    batch = min(int(params[0]), record.max_batch)
    due = record.now >= record.oldest_arrival + params[1]
    if record.waiting >= batch or due or not record.can_wait:
        return record.num_bins, batch
    return record.num_bins, 0
