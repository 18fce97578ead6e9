"""Multi-Bin Batching as published (arXiv 2412.04504): full batches of one bin, in the order of their formation."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import batch


@policy("multibin-fixed", engines=("batch",), params={"batch": batch(8)}, memory=2 + 32 + 4096)
def multibin_fixed(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Full batches of one bin, in the order in which they fill up (Multi-Bin Batching, arXiv 2412.04504).

    ``memory`` holds a ring of formed batches, each entry the bin of a batch: the place of the first entry, the number
    of entries, the number of entries of every bin, then the ring.  While a server is free, every arrival leads to a
    decision, so the order is exact.  Of batches that formed while all servers were busy, those of a bin with fewer
    entries come first, then those with the older head.  Batches that find the ring full enter it later.  When no event
    can come any more, the rest is served, oldest head first; overdue requests are served when all bins are empty.
    """
    bins, batch = record.num_bins, min(int(params[0]), record.max_batch)
    ring = 2 + bins
    room = len(memory) - ring
    while memory[1] < room:
        formed = -1
        for k in range(bins):
            if record.queue_length[k] >= batch * (memory[2 + k] + 1):
                fewer = memory[2 + formed] - memory[2 + k] if formed >= 0 else 1.0
                if fewer > 0 or (fewer == 0 and record.head_number[k] < record.head_number[formed]):
                    formed = k
        if formed < 0:
            break
        memory[ring + int(memory[0] + memory[1]) % room] = formed
        memory[1] += 1
        memory[2 + formed] += 1
    while memory[1] > 0:
        first = int(memory[ring + int(memory[0])])
        memory[0] = (memory[0] + 1) % room
        memory[1] -= 1
        memory[2 + first] -= 1
        if record.queue_length[first] > 0:  # else its requests have become overdue
            return first, batch
    oldest = -1
    for k in range(bins):
        if record.queue_length[k] > 0 and (oldest < 0 or record.head_number[k] < record.head_number[oldest]):
            oldest = k
    if oldest < 0:
        return record.overdue, batch
    return (bins, 0) if record.can_wait else (oldest, batch)
