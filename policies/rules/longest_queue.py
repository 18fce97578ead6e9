"""MaxWeight over bins: the longest queue is served."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import set_tbt, tbt


@policy("longest-queue", params={"tbt": tbt()}, controller=set_tbt)
def longest_queue(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The bin with the most waiting requests, the older head among equals; size = its target (MaxWeight).

    Overdue requests are served when all bins are empty.
    """
    best = 0
    for k in range(1, record.num_bins):
        longer = record.queue_length[k] - record.queue_length[best]
        if longer > 0 or (longer == 0 and record.head_number[k] < record.head_number[best]):
            best = k
    if record.queue_length[best] == 0:
        best = record.overdue
    return best, record.target[best]
