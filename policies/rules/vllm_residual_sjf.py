"""Shortest residual job first under vLLM's rules, after vLLM pull request 51375."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.vllm import CAPS, as_served


@policy(
    "vllm-residual-sjf",
    engines=("continuous",),
    params=CAPS,
    adapt=as_served,
    queueing=lambda params: {"discipline": "sjf"},
    continuous=lambda params: {"returned": "ordered"},
)
def vllm_residual_sjf(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The fewest predicted tokens still lacking first, preempted requests among the others (vLLM PR 51375)."""
    return record.num_bins, record.max_batch
