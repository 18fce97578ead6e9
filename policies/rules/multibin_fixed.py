"""Multi-Bin Batching as published (arXiv 2412.04504): full batches of one bin, in the order of their formation."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import batch


@policy("multibin-fixed", engines=("batch",), params={"batch": batch(8)}, memory=2 + 32 + 4096)
def multibin_fixed(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """A bin is served when it holds a full batch, in the order of formation (Multi-Bin Batching, arXiv 2412.04504).

    ``memory``: place of the first entry and number of entries of a ring of formed batches (their bins), then per bin
    how many entries it has, then the ring.  While a server is free every arrival asks, so the order is exact; of
    batches formed while all were busy a bin with fewer entries goes first, then the older head.  Batches that find
    the ring full enter it later.  Without anything to wait for, the rest is served, oldest head first.
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
    if memory[1] > 0:
        first = int(memory[ring + int(memory[0])])
        memory[0] = (memory[0] + 1) % room
        memory[1] -= 1
        memory[2 + first] -= 1
        return first, batch
    if record.can_wait:
        return bins, 0
    oldest = -1
    for k in range(bins):
        if record.queue_length[k] > 0 and (oldest < 0 or record.head_number[k] < record.head_number[oldest]):
            oldest = k
    return oldest, batch
