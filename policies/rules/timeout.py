"""Full batches, but no request waits for one longer than a set time (Triton, TorchServe, a GPT-2 benchmark)."""

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
    """A full batch, or what waits once the oldest request has waited wait ms (dynamic batching of Triton, TorchServe).

    Due is arrival + wait, the same sum as that of the hold timer that wakes the policy.
    """
    batch = min(int(params[0]), record.max_batch)
    due = record.now >= record.oldest_arrival + params[1]
    if record.waiting >= batch or due or not record.can_wait:
        return record.num_bins, batch
    return record.num_bins, 0
