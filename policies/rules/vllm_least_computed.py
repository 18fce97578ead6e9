"""The victim with the least work done under vLLM's rules, after vLLM pull request 53723 (RFC 54644)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.vllm import CAPS, as_served


@policy(
    "vllm-least-computed",
    engines=("continuous",),
    params=CAPS,
    adapt=as_served,
    continuous=lambda params: {"victim": "least-computed"},
)
def vllm_least_computed(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """First come, first served; the member with the fewest tokens computed is preempted (vLLM PR 53723)."""
    return record.num_bins, record.max_batch
