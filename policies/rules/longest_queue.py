"""MaxWeight over bins: the longest queue is served."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import set_tbt, tbt


@policy("longest-queue", params={"tbt": tbt()}, controller=set_tbt)
def longest_queue(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The bin with the most waiting requests, the older head among equals; size = its target (MaxWeight)."""
    best = 0
    for k in range(1, record.num_bins):
        if k == record.late_bin and record.queue_length[k] < record.waiting:
            continue
        longer = record.queue_length[k] - record.queue_length[best]
        if longer > 0 or (longer == 0 and record.head_number[k] < record.head_number[best]):
            best = k
    return best, record.target[best]
