"""Uniform random decisions: the least that a scheduler should beat."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy


@policy("random")
def random_choice(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """A random bin (non-empty, or any) and a random size from 1 to max_batch: the least to beat."""
    filled = 0
    for k in range(record.num_bins):
        filled += record.queue_length[k] > 0
    left = int(rng.random() * (filled + 1))
    size = 1 + int(rng.random() * record.max_batch)
    for k in range(record.num_bins):
        if record.queue_length[k] > 0:
            if left == 0:
                return k, size
            left -= 1
    return record.num_bins, size
