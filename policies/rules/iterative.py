"""Requests join and leave at every iteration, without a token budget (Orca, OSDI 2022)."""

from __future__ import annotations

import math

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy


@policy(
    "iterative",
    engines=("continuous",),
    continuous=lambda params: {"admission": "prompt", "prefill": "chunked", "token_budget": math.inf},
)
def iterative(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """All waiting requests join the next iteration, whole prompts beside decoding (Orca, OSDI 2022)."""
    return record.num_bins, record.max_batch
